"""What a sound mask covers, be it polygons or run lengths."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as mask_tools

from condinst.annotations import polygons, rle
from condinst.annotations.polygons import Box

Entry = dict[str, Any]


def around(mask: Any) -> Box:
    """Corners of what it covers."""
    if isinstance(mask, list):
        return polygons.extents(mask)
    x, y, w, h = mask_tools.toBbox(_coded(mask)).tolist()
    return x, y, x + w, y + h


def _coded(mask: Entry) -> Entry:
    return {"size": mask["size"], "counts": rle.compress(mask)}


def enclosed(mask: Any, height: int, width: int) -> float:
    """The area of its polygons, or its pixels."""
    return polygons.enclosed(mask) if isinstance(mask, list) else pixels(mask, height, width)


def pixels(mask: Any, height: int, width: int) -> float:
    """How many pixels it covers."""
    if isinstance(mask, list):
        return float(mask_tools.area(mask_tools.merge(mask_tools.frPyObjects(mask, height, width))))
    return float(mask_tools.area(_coded(mask)))
