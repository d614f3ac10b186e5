"""Whether numbers of one scale are of another: percent of pixels, masks of another size.

Letters: ``n`` annotations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNIT = 1.001  # of shares, with rounding
_WHOLE = 0.05  # pixels that a percentage's rounding may move what was a whole pixel
_ASPECT = 0.02  # by which shapes may differ


def in_percent(around: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Outlines (n,) whose corners are whole pixels as percent of their images alone.

    In an image of about 100 pixels a percent is a pixel, and outlines that fill their image have
    nothing to tell: these are none. Halves of a pixel are a grid of their own, and none either.

    Args:
        around: (n, 4) corners.
        sizes: (n, 2) width and height.
    """
    pixels = around * np.tile(sizes, (1, 2)) / 100
    whole = (np.abs(pixels - np.round(pixels)) <= _WHOLE).all(1)
    odd = np.abs(2 * around - np.round(2 * around)) > 1e-6
    return whole & (odd.sum(1) >= 2)


def same_shape(mask: Sequence[float], image: Sequence[float]) -> bool:
    """Whether two sizes (height, width) differ by one factor, but for rounding."""
    return abs(mask[0] * image[1] / (mask[1] * image[0]) - 1) <= _ASPECT


def shares(
    around: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Outlines (n,) that may be shares of their images, and those that are nothing else.

    Args:
        around: (n, 4) corners; NaN where unknown.
        sizes: (n, 2) width and height.
    """
    right = (around >= 1 - UNIT, around <= UNIT, sizes > 4)
    may = np.logical_and.reduce(np.concatenate(right, axis=1), axis=1)
    odd = (around != np.round(around)).any(1)
    return may, np.logical_and(may, odd)
