"""Upsampling and resizing written as what they are: two neighbouring cells mixed, axis by axis.

Letters: ``n`` cells of one axis, ``f`` the factor of upsampling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
    """Pixel i mixes cells low[i] and low[i] + 1; ``fraction`` is the weight of the second.

    On the last cell the fraction is 0.
    """

    low: np.ndarray
    fraction: np.ndarray


def upsampling_taps(name: str, n: int, factor: int) -> Taps:
    """The taps of `condinst.layers.upsampling`'s upsampling of that name."""
    out = np.arange(n * factor)
    if name == "aligned" or factor == 1:
        return _taps(np.maximum(out - factor // 2, 0) / factor, n)
    assert name == "plain", name
    return _taps((out + 0.5) / factor - 0.5, n)


def resize_taps(n: int, size: int) -> Taps:
    """Bilinear resizing of n pixels to ``size``, half-pixel centres, without smoothing."""
    return _taps((np.arange(size) + 0.5) * (n / size) - 0.5, n)


def _taps(position: np.ndarray, n: int) -> Taps:
    position = np.maximum(position, 0)
    low = np.minimum(np.floor(position).astype(np.int64), n - 1)
    return Taps(low, np.where(low < n - 1, position - low, 0.0))


def final_matrix(n: int, stride: int, kept: int, size: int) -> np.ndarray:
    """Aligned upsampling of n cells by ``stride``, its first ``kept`` pixels resized to ``size``.

    Returns:
        (size, n) float64; each row has at most three neighbouring numbers that are not 0.
    """
    up = upsampling_taps("aligned", n, stride)
    resize = resize_taps(kept, size)
    rows, made = np.arange(size), np.zeros((size, n + 1))
    for pixel, weight in (
        (resize.low, 1 - resize.fraction),
        (np.minimum(resize.low + 1, kept - 1), resize.fraction),
    ):
        made[rows, up.low[pixel]] += weight * (1 - up.fraction[pixel])
        made[rows, up.low[pixel] + 1] += weight * up.fraction[pixel]
    return made[:, :n]


def window(weights: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The three neighbouring cells that each row of `final_matrix` mixes: first one, weights."""
    missing = max(3 - weights.shape[1], 0)
    weights = np.pad(weights, ((0, 0), (0, missing)))
    n = weights.shape[1]
    first = np.minimum((weights != 0).argmax(1), n - 3)
    index = first[:, None] + np.arange(3)
    made = np.take_along_axis(weights, index, 1)
    assert np.count_nonzero(made) == np.count_nonzero(weights), "more than three cells"
    return first, made.astype(dtype)
