"""Sums over everything that shares a step: the workers, and the step's micro-batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import NamedTuple

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


class _Part(NamedTuple):
    values: Mapping[str, Tensor]
    first: bool


_PART: ContextVar[_Part | None] = ContextVar("part", default=None)


def reduce_mean(x: Tensor) -> Tensor:
    """Mean of a tensor over all workers, without gradient; with one worker, the tensor itself."""
    x = x.detach()
    if comm.get_world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / comm.get_world_size()


def normalizer(name: str, x: Tensor) -> Tensor:
    """A loss's normaliser: the mean over all workers of the sum over their micro-batches.

    Args:
        name: under which :func:`part_of_step` may provide it.
        x: of this worker and micro-batch.
    """
    part = _PART.get()
    return reduce_mean(x) if part is None else part.values[name]


def at_least_one(mean: Tensor) -> Tensor:
    """A mean over workers, raised if needed so that their sum is at least 1."""
    return mean.clamp(min=1.0 / comm.get_world_size())


@contextlib.contextmanager
def part_of_step(values: Mapping[str, Tensor], *, first: bool) -> Iterator[None]:
    """Make :func:`normalizer` return these values, which cover all micro-batches of a step.

    Args:
        values: by name.
        first: whether the micro-batch is its step's first.
    """
    token = _PART.set(_Part(values, first))
    try:
        yield
    finally:
        _PART.reset(token)


def begins_step() -> bool:
    """Whether this forward pass is its step's first: when to update what moves once per step."""
    part = _PART.get()
    return part is None or part.first
