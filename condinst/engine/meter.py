"""Figures of the steps since the last row."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch

Row = dict[str, float]


class Meter:
    """Means over the steps since the last row; speed counts this process's clock.

    Args:
        state: what :meth:`state` returned, to continue from.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self._sums: Row = dict(state["sums"]) if state else {}
        self._steps: int = state["steps"] if state else 0
        self._elapsed: float = state["elapsed"] if state else 0.0
        self._began = time.perf_counter()

    def restart_clock(self) -> None:
        """Leave out the time before now."""
        self._began = time.perf_counter()

    def add(self, values: Row) -> None:
        """Count one step's values."""
        self._steps += 1
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value

    def averages(self, images_per_step: int) -> Row:
        """The means, and the images per second."""
        if not self._steps:  # all were skipped
            return {"images_per_s": 0.0}
        seconds = self._elapsed + time.perf_counter() - self._began
        row = {key: value / self._steps for key, value in self._sums.items()}
        return {**row, "images_per_s": self._steps * images_per_step / max(seconds, 1e-9)}

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        elapsed = self._elapsed + time.perf_counter() - self._began
        return {"sums": dict(self._sums), "steps": self._steps, "elapsed": elapsed}


def memory_mb() -> float:
    """Peak memory of this process so far: the GPU's if one is in use, else resident memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
