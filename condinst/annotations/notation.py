"""Masks in another notation than COCO's that have one meaning: written as they should be."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from pycocotools import mask as mask_tools

from condinst.annotations import polygons, rle

_BYTES = re.compile(r"""b(['"]).*\1""", re.DOTALL)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_BETWEEN = re.compile(r"[\s,;]+")
_LONGEST = 1 << 24  # characters of a mask as text


def tidy(mask: Any, height: int, width: int) -> tuple[Any, str]:
    """A mask as polygons or run lengths, and what was unusual about it; empty: nothing.

    What cannot be understood is given back as it is.

    Args:
        mask: an annotation's segmentation.
        height: of its image.
        width: of its image.
    """
    if isinstance(mask, str):
        return _text(mask, height, width)
    if isinstance(mask, dict):
        if "counts" in mask and mask.get("size") is None:
            found, unusual = _coded({**mask, "size": [height, width]})
            if rle.problem(found, height, width) is None:
                return found, "its run-length mask has no size" + (unusual and f" and {unusual}")
        return _coded(mask)
    if not isinstance(mask, list) or not mask:
        return mask, ""
    if any(isinstance(part, dict) and "counts" in part for part in mask):
        return _listed(mask, height, width)
    if not _has_text(mask):
        return mask, ""
    flat = _numbers(mask)
    parts = [_numbers(part) for part in mask] if flat is None else [flat]
    if any(part is None for part in parts):
        return mask, ""
    return parts if flat is None else flat, "its numbers are texts"


def _text(mask: str, height: int, width: int) -> tuple[Any, str]:
    """JSON within a text."""
    try:
        inner = json.loads(mask) if len(mask) < _LONGEST and mask[:1] in ("[", "{") else None
    except (ValueError, RecursionError):
        inner = None
    if not isinstance(inner, (list, dict)) or not inner:
        return mask, ""
    return tidy(inner, height, width)[0], "it is JSON within a text"


def _coded(mask: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Run lengths with counts and size as COCO writes them."""
    found, unusual = dict(mask), []
    counts = mask.get("counts")
    if isinstance(counts, str) and _BYTES.fullmatch(counts):
        try:
            found["counts"] = ast.literal_eval(counts).decode("ascii")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return mask, ""
        unusual.append("its counts are the text of Python's bytes, b'...'")
    elif isinstance(counts, str) and any(c in counts for c in " ,[;"):
        runs = _whole(_BETWEEN.split(counts.strip("[] \t\n")))
        if runs is not None:
            found["counts"] = runs
            unusual.append("its counts are numbers in a text")
    elif isinstance(counts, list) and not all(type(run) is int for run in counts):
        runs = _whole(counts)
        if runs is not None:
            found["counts"] = runs
            unusual.append("its counts are texts or fractions")
    size = mask.get("size")
    if isinstance(size, (list, tuple)) and not all(type(side) is int for side in size):
        sides = _whole(list(size))
        if sides is not None:
            found["size"] = sides
            unusual.append("its size is of texts or fractions")
    return (found, " and ".join(unusual)) if unusual else (mask, "")


def _listed(mask: list[Any], height: int, width: int) -> tuple[Any, str]:
    """Run lengths in a list, alone or with other parts of the same object."""
    parts = [tidy(part if isinstance(part, dict) else [part], height, width)[0] for part in mask]
    if len(parts) == 1:
        return parts[0], "its run-length mask is in a list"
    rasters = []
    for part in parts:
        if isinstance(part, dict):
            if rle.problem(part, height, width) is not None:
                return mask, ""
            rasters.append({"size": [height, width], "counts": rle.compress(part)})
        elif any(map(polygons.problem, part)):
            return mask, ""
        else:
            rasters += mask_tools.frPyObjects(part, height, width)
    whole = mask_tools.merge(rasters)
    united = {"size": [height, width], "counts": whole["counts"].decode()}
    return united, f"it is a list of {len(parts)} masks; they become one"


def _has_text(parts: list[Any]) -> bool:
    return any(
        isinstance(part, str)
        or (isinstance(part, list) and any(isinstance(value, str) for value in part))
        for part in parts
    )


def _numbers(part: Any) -> list[Any] | None:
    """A polygon whose numbers are texts, or that is one text; None: no such thing."""
    values = _BETWEEN.split(part.strip("[] \t\n")) if isinstance(part, str) else part
    if not isinstance(values, list):
        return None
    found = [_number(value) for value in values]
    return found if all(polygons.is_number(value) for value in found) else None


def _number(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 40 or not _NUMBER.fullmatch(value):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _whole(values: list[Any]) -> list[int] | None:
    """Whole numbers, whatever they are written as; None: some are none."""
    found = [_number(value) for value in values]
    if not all(polygons.is_number(value) and float(value).is_integer() for value in found):
        return None
    return [int(value) for value in found]
