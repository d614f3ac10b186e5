"""What four numbers may mean as a box, and how boxes compare.

Letters: ``n`` boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SWAPPED = [1, 0, 3, 2]  # y before x


def readings(boxes: Floats, sizes: Floats) -> Iterator[tuple[str, Floats]]:
    """What boxes mean if they are not x, y, width, height: a name, and corners (n, 4) in pixels.

    Args:
        boxes: (n, 4) as they stand.
        sizes: (n, 2) width and height of their images.
    """
    whole = np.tile(sizes, (1, 2))
    low, extent = boxes[:, :2], boxes[:, 2:]
    turned = boxes[:, SWAPPED]
    forms = {
        "": np.concatenate((low, low + extent), 1),
        "as corners": boxes,
        "by its centre": np.concatenate((low - extent / 2, low + extent / 2), 1),
        "with x and y swapped": np.concatenate((turned[:, :2], turned[:, :2] + turned[:, 2:]), 1),
        "as corners with x and y swapped": turned,
    }
    for unit, factor in (("", 1.0), ("normalised", whole), ("in percent", whole / 100)):
        for form, corners in forms.items():
            if form or unit:
                yield f"box {', '.join(filter(None, (form, unit)))}", corners * factor


def without_unit(name: str | None) -> str | None:
    """The reading of a box that has been made pixels already; None: x, y, width, height."""
    parts = (name or "").removeprefix("box ").split(", ")
    form = ", ".join(part for part in parts if part not in ("", "normalised", "in percent"))
    return f"box {form}" if form else None


def overlap(boxes: Floats, around: Floats) -> Floats:
    """Intersection over union (n,) of corners (n, 4), pairwise."""
    low, high = np.maximum(boxes[:, :2], around[:, :2]), np.minimum(boxes[:, 2:], around[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    both = sum(np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1) for b in (boxes, around))
    return common / np.maximum(both - common, 1e-12)


def as_corners(boxes: Floats) -> Floats:
    """Corners (n, 4) of boxes x, y, width, height."""
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
