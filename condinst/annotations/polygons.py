"""Polygons as COCO writes them, ``[x, y, x, y, ...]``: what is wrong with them, and mending it."""

from __future__ import annotations

import math
from typing import Any

from condinst.files.bounds import FAR, OUTLINE

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def problem(part: object) -> str | None:
    """What keeps a polygon from being used; None where nothing does."""
    if not isinstance(part, list) or not all(map(is_number, part)):
        return "a polygon is no list of finite numbers"
    if len(part) % 2 or len(part) < 6:
        return f"a polygon of {len(part)} numbers is not three points or more"
    if max(map(abs, part)) > FAR:
        return f"a polygon reaches {max(part, key=abs):g} pixels from the corner"
    if outline(part) > OUTLINE:
        return f"a polygon's outline is {outline(part):g} pixels long"
    return None


def outline(part: list[float]) -> float:
    """How long a polygon's outline is, by the longer side of each step: what rasterising costs."""
    xs, ys = part[0::2], part[1::2]
    steps = zip(xs, xs[1:] + xs[:1], ys, ys[1:] + ys[:1], strict=True)
    return sum(max(abs(x - u), abs(y - v)) for x, u, y, v in steps)


def usual_layout(segmentation: list[Any]) -> list[Any] | None:
    """A list of polygons, where these came as one flat list or as pairs; None: in neither way."""
    if len(segmentation) >= 6 and all(map(is_number, segmentation)):
        return [segmentation]
    if _pairs(segmentation):
        return [[number for point in segmentation for number in point]]
    if segmentation and all(isinstance(part, list) and _pairs(part) for part in segmentation):
        return [[number for point in part for number in point] for part in segmentation]
    if len(segmentation) == 1 and _nested(segmentation[0]):
        return segmentation[0]
    return None


def _nested(parts: object) -> bool:
    """Whether it is a list of polygons, each a list of numbers."""
    return isinstance(parts, list) and all(
        isinstance(part, list) and len(part) >= 6 and all(map(is_number, part)) for part in parts
    )


def _pairs(points: list[Any]) -> bool:
    return len(points) >= 3 and all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point))
        for point in points
    )


def extents(parts: list[list[float]]) -> Box:
    """The least box around polygons, of which there is at least one."""
    xs = [x for part in parts for x in part[0::2]]
    ys = [y for part in parts for y in part[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def moved(
    parts: list[list[float]], factors: tuple[float, float], swapped: bool = False
) -> list[list[float]]:
    """Polygons in pixels of another frame.

    Args:
        parts: polygons.
        factors: pixels for a unit of x and of y.
        swapped: y stands before x.
    """
    found = []
    for part in parts:
        xs, ys = (part[1::2], part[0::2]) if swapped else (part[0::2], part[1::2])
        points = zip(xs, ys, strict=True)
        found.append([v for x, y in points for v in (x * factors[0], y * factors[1])])
    return found


def enclosed(parts: list[list[float]]) -> float:
    """The sum of the polygons' areas."""
    return sum(abs(_signed(part)) for part in parts)


def _signed(part: list[float]) -> float:
    xs, ys = part[0::2], part[1::2]
    after = zip(xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    return sum(x * v - u * y for x, y, (u, v) in zip(xs, ys, after, strict=True)) / 2


def clip(part: list[float], width: int, height: int) -> list[float] | None:
    """The part of a polygon inside an image, by Sutherland and Hodgman; None: nothing is.

    Where the outline leaves the image several times the pieces stay joined along the border,
    which encloses no pixel.
    """
    points = list(zip(part[0::2], part[1::2], strict=True))
    for axis, bound, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        kept: list[tuple[float, float]] = []
        for place, point in enumerate(points):
            former = points[place - 1]
            here, before = (point[axis] - bound) * sign, (former[axis] - bound) * sign
            if (here >= 0) != (before >= 0):
                share = before / (before - here)
                across = former[1 - axis] + share * (point[1 - axis] - former[1 - axis])
                kept.append((float(bound), across) if axis == 0 else (across, float(bound)))
            if here >= 0:
                kept.append(point)
        points = kept
    flat = [number for point in points for number in point]
    if len(points) < 3:
        return None
    x0, y0, x1, y1 = extents([flat])
    return flat if x1 > x0 and y1 > y0 else None


def fits(box: Box, around: Box) -> bool:
    """Whether a box is roughly the one around a mask: half of both is common, or it is near."""
    return overlap(box, around) >= 0.5 or nearest(box, around) <= NEAR


NEAR = 5.0  # pixels; small objects' boxes are rounded


def nearest(box: Box, around: Box) -> float:
    """How far the farthest side is from where it should be."""
    return max(abs(a - b) for a, b in zip(box, around, strict=True))


def overlap(box: Box, around: Box) -> float:
    """Intersection over union."""
    width = min(box[2], around[2]) - max(box[0], around[0])
    height = min(box[3], around[3]) - max(box[1], around[1])
    common = max(width, 0) * max(height, 0)
    both = _size(box) + _size(around) - common
    return common / both if both > 0 else 0.0


def _size(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
