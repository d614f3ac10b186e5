"""One box beside its mask: how it is to be read, and what is wrong with it."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from condinst.annotations import frames, polygons
from condinst.annotations.box_readings import readings
from condinst.annotations.polygons import Box, is_number
from condinst.annotations.screening import MARGIN


def is_box(value: object) -> TypeGuard[list[float]]:
    """Whether it is four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def corners(box: list[float]) -> Box:
    """Corners of x, y, width, height."""
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def within(around: Box, width: int, height: int) -> bool:
    """Whether it is inside an image, but for rounding."""
    x0, y0, x1, y1 = around
    return min(x0, y0) >= -MARGIN and x1 <= width + MARGIN and y1 <= height + MARGIN


def read(
    box: list[float], around: Box, width: int, height: int, verdict: frames.Verdict
) -> tuple[str, Box] | None:
    """How a box fits its mask, and its corners in pixels.

    Args:
        box: four numbers.
        around: corners of what the mask covers.
        width: of the image.
        height: of the image.
        verdict: on the file's boxes.

    Returns:
        No name: it is x, y, width, height. None: it fits in no reading.
    """
    plain = corners(box)
    now = polygons.overlap(plain, around)
    found: dict[str, Box] = {}
    size = np.array([[width, height]], np.float64)
    for name, values in readings(np.array([box], np.float64), size):
        x0, y0, x1, y1 = values[0].tolist()
        found[name] = x0, y0, x1, y1
    best = max(found, key=lambda name: polygons.overlap(found[name], around))
    alike = polygons.overlap(found[best], around)
    reading = verdict.reading
    fits = reading is not None and polygons.fits(found[reading], around)
    if reading is not None and fits and polygons.overlap(found[reading], around) > now:
        return reading, found[reading]
    if best in verdict.minor and alike >= frames.SURE and now < frames.ALIKE:
        return best, found[best]
    if polygons.fits(plain, around):
        return "", plain
    return (best, found[best]) if alike >= frames.ALIKE else None


def problem(
    box: list[float], around: Box, width: int, height: int, crowd: bool
) -> tuple[str, str] | None:
    """Kind and reason of what is wrong with a box x, y, width, height; None: nothing.

    Crowd regions' boxes are rough in COCO too.
    """
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return "box of no size", "is empty"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return "box outside", f"lies outside its image of {width} x {height}"
    if not crowd and not polygons.fits((x, y, x + w, y + h), around):
        tight = ", ".join(
            f"{v:g}" for v in (*around[:2], around[2] - around[0], around[3] - around[1])
        )
        return "box not around its mask", f"is not around its mask, which is at {tight}"
    return None
