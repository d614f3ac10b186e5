"""What the compiled loops of `kernels` take.

Letters: as in `kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Heads(NamedTuple):
    """The networks and what they read; floats are all single or all double.

    Attributes:
        params: (K, N).
        origins: (K, 2) and ``inverses`` (K,): a coordinate is (origin - point) * inverse.
        inverses: see ``origins``.
        images: (K,).
        channels: (depth + 1,) as `HeadLayout.channels`.
        features: (B, C, h w).
        points: (2, h w).
        size: (2,) h and w.
    """

    params: np.ndarray
    origins: np.ndarray
    inverses: np.ndarray
    images: np.ndarray
    channels: np.ndarray
    features: np.ndarray
    points: np.ndarray
    size: np.ndarray


class Truth(NamedTuple):
    """What dice compares with: masks (M, H, W) of bytes, and the mask of each instance (K,)."""

    masks: np.ndarray
    targets: np.ndarray


class Boxes(NamedTuple):
    """What BoxInst's losses compare with.

    Attributes:
        spans: (M, 4) top, bottom, left, right.
        targets: (K,).
        alike: (B, J, H, W) bytes.
        offsets: (J, 2) rows down and columns right, the lesser of opposite ones first.
    """

    spans: np.ndarray
    targets: np.ndarray
    alike: np.ndarray
    offsets: np.ndarray


class Tile(NamedTuple):
    """Room for one tile: ``coords`` (2, T), ``acts`` (depth, rows, T), ``gradients`` (2, rows, T).

    ``cells``: the rows of `paper_kernels`, one after the other.
    """

    coords: np.ndarray
    acts: np.ndarray
    gradients: np.ndarray
    cells: np.ndarray
