"""Micro-batches: more images per step than fit into memory at once.

Their gradients add up to those of all images at once, since the losses' normalisers are counted
over all of them beforehand. The exceptions are batch norm (statistics per micro-batch) and limits
on random positives.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from condinst.engine.state import unwrap
from condinst.errors import PassingError, UserError
from condinst.layers.distributed import part_of_step, reduce_mean

_LOGGER = logging.getLogger(__name__)
_FILE = "parts.json"
Batch = list[dict[str, Any]]


class MicroBatch(NamedTuple):
    """Some of a step's images.

    Attributes:
        batch: the images.
        weight: share of its losses in the step's.
        first: whether it is the step's first.
        last: whether it is the step's last.
        normalizers: sums over the micro-batches, means over the workers; None: the forward pass
            counts its own.
    """

    batch: Batch
    weight: float
    first: bool
    last: bool
    normalizers: dict[str, Tensor] | None

    def context(self) -> contextlib.AbstractContextManager:
        """For the forward pass."""
        if self.normalizers is None:
            return contextlib.nullcontext()
        return part_of_step(self.normalizers, first=self.first)


def split(model: nn.Module, batch: Batch, count: int) -> list[MicroBatch]:
    """Split a batch into micro-batches of about equal size.

    Args:
        model: may have a method ``normalizers`` that counts its losses' normalisers.
        batch: this worker's images.
        count: how many; at most as many as images.
    """
    count = min(count, len(batch))
    if count == 1:
        return [MicroBatch(batch, 1.0, True, True, None)]
    bounds = [len(batch) * i // count for i in range(count + 1)]
    pieces = [batch[a:b] for a, b in itertools.pairwise(bounds)]
    inner = unwrap(model)
    counter = getattr(inner, "normalizers", None)
    normalizers = None
    if counter is not None:
        counted = [counter(piece) for piece in pieces]
        normalizers = {
            name: reduce_mean(torch.stack([one[name].float() for one in counted]).sum())
            for name in counted[0]
        }
    return [
        MicroBatch(
            piece,
            len(piece) / len(batch) if normalizers is None else 1.0,
            i == 0,
            i + 1 == count,
            normalizers,
        )
        for i, piece in enumerate(pieces)
    ]


class OutOfMemoryError(UserError):
    """The images of a step or micro-batch did not fit."""


class PartsGrownError(OutOfMemoryError, PassingError):
    """They did not fit, but may with more micro-batches, from the last checkpoint."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU's allocator is out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextlib.contextmanager
def local_gradients(model: nn.Module, local: bool) -> Iterator[None]:
    """Keep gradients local to the worker for all but the last micro-batch."""
    if local and isinstance(model, nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


class MicroBatchCount:
    """Number of micro-batches per step; grows when memory runs out, and survives restarts.

    Args:
        folder: of the run; keeps the number over a restart.
        asked: the minimum (``SOLVER.ACCUMULATE``).
        images: per step and worker.
    """

    def __init__(self, folder: Path, asked: int, images: int) -> None:
        self.path = folder / _FILE
        self.images = images
        needed = max(comm.all_gather(saved_parts(folder)))  # machines may have folders of their own
        self.value = min(max(asked, needed), images)

    def double(self, error: Exception) -> None:
        """Halve the size of a micro-batch.

        Raises:
            OutOfMemoryError: a single image does not fit.
            PartsGrownError: there are several workers, which can only continue together, from the
                last checkpoint.
        """
        if self.value >= self.images:
            raise OutOfMemoryError(
                f"one image at a time does not fit into memory ({_brief(error)}); use smaller "
                "images (INPUT.MIN_SIZE_TRAIN), train.amp, train.activation_checkpoints: true, or "
                "a smaller MODEL.CONDINST.MAX_PROPOSALS"
            ) from error
        self.value = min(self.value * 2, self.images)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"parts": self.value}) + "\n")
        text = (
            f"out of memory: each worker's {self.images} images per step are now split into "
            f"{self.value} micro-batches; images per step, learning rate and steps stay the same"
        )
        _LOGGER.warning("%s", text)
        if comm.get_world_size() > 1:
            raise PartsGrownError(f"{text}. All workers start again from the last checkpoint")


def saved_parts(folder: Path) -> int:
    """Number of micro-batches after earlier runs ran out of memory; 1 if none did."""
    path = folder / _FILE
    return int(json.loads(path.read_text())["parts"]) if path.exists() else 1


def _brief(error: Exception) -> str:
    return str(error).partition("\n")[0][:120]
