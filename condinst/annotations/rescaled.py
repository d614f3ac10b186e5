"""Images that were all resized by one factor after annotating: annotations follow, if it is sure.

The JSON's sizes and its outlines belong together if outlines keep to these sizes, and to the files'
they do not: they leave files that are smaller, or keep to a corner of files that are larger, too
often for chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from condinst.annotations import boxes, polygons
from condinst.annotations.ids import canonical
from condinst.annotations.scales import same_shape

KIND = "images of another scale"

_FEW = 3
_MOST = 0.8  # of all images of another scale, or of all outlines
_ALIKE = 0.02  # by which factors may differ: whole pixels
_EDGE = 1.0  # pixels that an outline may stick out by
_UNLIKELY = math.log(1e-4)

Entry = dict[str, Any]
Size = tuple[int, int]


def factor(stated: Size, files: Sequence[Size]) -> float | None:
    """Size of an image's file for a pixel of its stated size.

    Args:
        stated: (width, height) of an image as the JSON has it.
        files: (width, height) that its file may be seen in.

    Returns:
        None: both are alike, or of different shape.
    """
    if not files or stated in files or not 0 < min(stated) <= max(stated) < 2**31:
        return None
    if not same_shape(stated[::-1], files[0][::-1]):
        return None
    across = files[0][0] / stated[0]
    return across if abs(across - 1) > _ALIKE else None


def voted(found: Sequence[tuple[Any, Size, float]], annotations: Iterable[Any]) -> float | None:
    """The factor that annotations are to be scaled by; None: it cannot be told.

    Args:
        found: id in its canonical form, stated (width, height) and factor of images that have one.
        annotations: as they stand.
    """
    if len(found) < _FEW:
        return None
    middle = float(np.median([across for _, _, across in found]))
    sizes = {key: size for key, size, across in found if alike(across, middle)}
    if len(sizes) < _MOST * len(found):
        return None
    within = beyond = total = 0
    for entry in annotations:
        size = sizes.get(canonical(entry.get("image_id"))) if isinstance(entry, dict) else None
        reach = None if size is None else _reach(entry)
        if size is None or reach is None:
            continue
        total += 1
        within += all(r <= s + _EDGE for r, s in zip(reach, size, strict=True))
        beyond += any(r > s * middle + _EDGE for r, s in zip(reach, size, strict=True))
    if total < _FEW or within < _MOST * total:
        return None
    smaller = middle < 1 and beyond >= _FEW
    larger = middle > 1 and -2 * total * math.log(middle) < _UNLIKELY
    return middle if smaller or larger else None


def alike(one: float, other: float) -> bool:
    """Whether two factors are one, but for whole pixels."""
    return abs(one / other - 1) <= _ALIKE


def _reach(entry: Entry) -> tuple[float, float] | None:
    """Right and lower end of an annotation's outline, or of its box."""
    mask, box = entry.get("segmentation"), entry.get("bbox")
    if isinstance(mask, list) and mask and not any(map(polygons.problem, mask)):
        return polygons.extents(mask)[2:]
    return boxes.corners(box)[2:] if boxes.is_box(box) else None


def scaled(given: Entry, across: float, down: float) -> Entry:
    """An annotation in the pixels of a resized image; run lengths stay, their size tells.

    Args:
        given: in those of the stated size.
        across: factor of x.
        down: factor of y.
    """
    entry = dict(given)
    if boxes.is_box(given.get("bbox")):
        entry["bbox"] = [v * (down if k % 2 else across) for k, v in enumerate(given["bbox"])]
    mask = given.get("segmentation")
    if isinstance(mask, list) and mask and not any(map(polygons.problem, mask)):
        entry["segmentation"] = polygons.moved(mask, (across, down))
    if polygons.is_number(given.get("area")):
        entry["area"] = given["area"] * across * down
    return entry
