"""A model's tensors: its buffers before a step, and whether all its values are finite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from condinst.engine.ema import Ema
from condinst.engine.failure import NonFiniteStateError
from condinst.engine.state import unwrap

_NAMED = 8  # tensors to list in a message


class Snapshot:
    """The buffers of a model as they were before a step.

    A forward pass updates batch statistics and moving means even if the step is skipped in the
    end. All buffers are kept, since batch norm kernels update theirs without a trace.

    Args:
        model: with all its buffers; later ones are not seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._kept = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def take(self) -> None:
        """Save the current values."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the saved values."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)


def unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that a state dict omits, such as moving means that need not outlive a run."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def load_buffers(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Restore the buffers that a state dict omits."""
    for name, buffer in unsaved_buffers(model).items():
        buffer.copy_(values[name])


def check_finite(
    model: nn.Module, ema: Ema | None, optimizer: torch.optim.Optimizer, steps_done: int, kept: Path
) -> None:
    """Refuse to write a state with infinite values or NaN; all workers call it together.

    Args:
        model: its weights and buffers.
        ema: its moving average.
        optimizer: of its parameters.
        steps_done: for the message.
        kept: folder of earlier checkpoints.

    Raises:
        NonFiniteStateError: some values are not finite.
    """
    named = _state(unwrap(model), ema, optimizer)
    found = [row for rows in comm.all_gather(non_finite(named)) for row in rows]
    if found:
        raise NonFiniteStateError(
            f"after step {steps_done} these are not finite: {listed(list(dict.fromkeys(found)))}. "
            f"This state was not saved; earlier checkpoints are in {kept}.\n"
            "Try a lower train.lr, train.clip_gradients: 1.0, train.amp: none, or a norm other "
            "than BN (MODEL.RESNETS.NORM)."
        )


def check_weights(model: nn.Module, source: str) -> None:
    """Refuse to start from weights that are not finite.

    Raises:
        NonFiniteStateError: some of them are not.
    """
    found = non_finite(model.state_dict().items())
    if found:
        raise NonFiniteStateError(
            f"MODEL.WEIGHTS = {source}: these are not finite: {listed(found)}. The file comes from "
            "a training that failed; use earlier weights"
        )


def non_finite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Name, and number of non-finite values, of each tensor that has any."""
    rows = []
    for name, value in named:
        if value.is_floating_point() and not value.isfinite().all():
            rows.append(f"{name} ({int((~value.isfinite()).sum())} of {value.numel()})")
    return rows


def listed(rows: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(rows) - _NAMED
    return ", ".join(rows[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _state(
    model: nn.Module, ema: Ema | None, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    yield from model.state_dict().items()
    yield from unsaved_buffers(model).items()
    for name, value in (ema.state if ema is not None else {}).items():
        yield f"EMA of {name}", value
    names: dict[Tensor, str] = {value: name for name, value in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        entries: dict[str, Any] = state
        for kind, value in entries.items():
            if isinstance(value, Tensor):
                yield f"{kind} of {names.get(parameter, 'a parameter')}", value
