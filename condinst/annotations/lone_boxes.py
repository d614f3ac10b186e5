"""A vote over objects of which only the box is known: no mask beside it says how it is meant.

Letters: ``n`` boxes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from condinst.annotations.scales import UNIT, in_percent

_FEW = 3
_MOST = 0.8  # of all boxes, where some are to speak for all
_EDGE = 1.0  # pixels that a box may stick out by
_PERCENT = 100.5
_SPREAD = 60.0  # percent that some box reaches if they are percent
_UNLIKELY = math.log(1e-4)
_REMEDY = "write them as x, y, width, height in pixels"


class LoneBoxes:
    """Counts what boxes may be; gathers many at a time."""

    def __init__(self) -> None:
        self._total = self._shares = self._near = self._whole = 0
        self._corners = self._corners_alone = 0
        self._reach = np.zeros(2)
        self._chance = 0.0  # logarithm: that boxes in pixels all lie within 100 of the corner

    def add(self, boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> None:
        """Count boxes.

        Args:
            boxes: (n, 4) as they stand.
            sizes: (n, 2) width and height of their images.
        """
        ends = boxes[:, :2] + boxes[:, 2:]
        low = (boxes[:, :2] >= -_EDGE).all(1)
        plain = low & (ends <= sizes + _EDGE).all(1)
        ordered = low & (boxes[:, 2:] > boxes[:, :2]).all(1)
        corners = ordered & (boxes[:, 2:] <= sizes + _EDGE).all(1)
        self._total += len(boxes)
        self._shares += int(((boxes <= UNIT) & np.tile(sizes > 4, (1, 2))).all(1).sum())
        self._near += int((low & (ends <= _PERCENT).all(1)).sum())
        self._whole += int(in_percent(np.concatenate((boxes[:, :2], ends), 1), sizes).sum())
        self._corners += int(corners.sum())
        self._corners_alone += int((corners & ~plain).sum())
        self._reach = np.maximum(self._reach, ends.max(0, initial=0))
        self._chance += float(np.log(np.minimum(_PERCENT / np.maximum(sizes, 1), 1)).sum())

    def doubt(self) -> str | None:
        """What is wrong with most of them, in a sentence; None: nothing is known."""
        total = self._total
        if total < _FEW:
            return None
        if 2 * self._shares > total:
            return f"{self._said(self._shares)} are shares of their images: {_REMEDY}"
        spread = (self._reach >= _SPREAD).all() and self._chance < _UNLIKELY
        if self._near == total and (spread or self._whole >= _MOST * total):
            return f"{self._said(total)} are percent of width and height: {_REMEDY}"
        if self._corners == total and self._corners_alone >= max(_FEW, 0.2 * total):
            share = f"{self._corners_alone:,} leave their image as x, y, width, height"
            return f"{self._said(total)} are corners x0, y0, x1, y1, since {share}: {_REMEDY}"
        return None

    def _said(self, count: int) -> str:
        share = f"({count / self._total:.0%})"
        return f"boxes without masks: {count:,} of {self._total:,} {share}"
