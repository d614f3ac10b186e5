"""When a loss or a gradient is not finite: keep the evidence, say what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from condinst.errors import UserError


class NonFiniteLossError(UserError):
    """A loss or gradient became infinite or NaN; ``dump`` is the file with the evidence."""

    def __init__(self, message: str, dump: Path | None = None) -> None:
        super().__init__(message)
        self.dump = dump


class NonFiniteStateError(UserError):
    """Weights, buffers or the optimiser's state contain infinite values or NaN."""


def plain(value: Any) -> Any:
    """The value as tensors, lists, dicts, numbers and strings, which ``torch.load`` reads safely.

    Boxes become their (M, 4) tensor, bit masks their (M, h, w) tensor, polygons lists of lists of
    tensors; Instances become {"image_size": [h, w], "fields": {...}}.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Boxes | BitMasks):
        return plain(value.tensor)
    if isinstance(value, PolygonMasks):
        return plain(value.polygons)
    if isinstance(value, Instances):
        return {"image_size": list(value.image_size), "fields": plain(value.get_fields())}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return str(value)


def dump_state(path: Path, state: Mapping[str, Any]) -> Path | None:
    """Write the state; None if it cannot be written (the run is lost anyway)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(plain(state), path)
    except OSError:
        return None
    return path


def describe(
    step: int, what: str, losses: Mapping[str, float], lr: float, dump: Path | None
) -> str:
    """The message for the user: what happened, where the evidence is, what to try."""
    terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    kept = (
        f"batch, weights and optimiser are in {dump}, which `python cli.py replay {dump}` repeats"
        if dump
        else "the dump could not be written to disk"
    )
    return (
        f"{what} became infinite or NaN at step {step} (lr {lr:.4g}; {terms}); {kept}.\n"
        "Try, in this order: a lower train.lr; a longer train.warmup_steps; "
        "train.clip_gradients: 1.0; from random weights BN or GN instead of FrozenBN "
        "(MODEL.RESNETS.NORM), MODEL.BACKBONE.FREEZE_AT 0 and MODEL.PIXEL_STD near 57; "
        "train.amp: none."
    )
