"""Checkpoints: atomic, with plain values only; the last good one is found again."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from condinst.atomic import atomic_file

logger = logging.getLogger(__name__)
_NAME = re.compile(r"step_(\d+)\.pth")


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a file atomically.

    Raises:
        UserError: it cannot be written to disk; an older file of that name stays.
    """
    with atomic_file(path) as partial, partial.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what torch raises when the disk is full
            raise OSError(error) from error
        file.flush()
        os.fsync(file.fileno())


class Checkpoints:
    """The folder of a run's periodic checkpoints.

    Args:
        folder: holds ``step_<steps done>.pth``.
        keep: how many of the newest to keep; at least 2, so that a damaged one costs little.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        assert keep >= 1, keep
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """All checkpoints, newest first."""
        found = [
            (int(m[1]), p) for p in self.folder.glob("step_*.pth") if (m := _NAME.fullmatch(p.name))
        ]
        return [path for _, path in sorted(found, reverse=True)]

    def save(self, state: dict[str, Any], steps_done: int) -> Path:
        """Write a checkpoint and drop the oldest."""
        path = self.folder / f"step_{steps_done:07d}.pth"
        save_atomically(state, path)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def load_last(self) -> dict[str, Any] | None:
        """The newest readable checkpoint, or None; warns about unreadable ones."""
        for path in self.paths():
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a torn file fails in many ways, from zipfile to pickle
                logger.warning("%s is damaged (%s); using the one before", path, error)
        return None
