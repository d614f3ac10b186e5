"""What COCO annotations can have wrong with them, found before anything trains on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pycocotools import mask as mask_tools

from condinst.data import rle

Entry = dict[str, Any]


@dataclass(frozen=True)
class AnnotationFault:
    """Something in a COCO JSON that cannot be used.

    Attributes:
        kind: ``category``, ``image`` or ``annotation``.
        id: the entry's own, or its place in the list where it has none.
        reason: what is wrong.
    """

    kind: str
    id: Any
    reason: str


@dataclass(frozen=True)
class Checked:
    """A COCO JSON's sound part.

    Attributes:
        content: with the lists images, annotations and categories; missing boxes, areas and crowd
            flags are filled in, ids of annotations that evaluators cannot take are replaced.
        faults: what was left out and why.
        renumbered: annotations that got another id.
    """

    content: Entry
    faults: tuple[AnnotationFault, ...]
    renumbered: int


def check_annotations(content: Mapping[str, Any]) -> Checked:
    """Part a COCO JSON's content into what can be used and what cannot.

    An annotation goes with its image. Polygons of fewer than three points are left out alone where
    others of their annotation are sound.

    Args:
        content: with the lists images, annotations and categories.
    """
    faults: list[AnnotationFault] = []
    categories = _sound(content["categories"], "category", _category_problem, faults)
    images = _sound(content["images"], "image", _image_problem, faults)
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    known = {category["id"] for category in categories}
    annotations: list[Entry] = []
    seen: set[Any] = set()
    for place, given in enumerate(content["annotations"]):
        problem = _reference_problem(given, sizes, known, seen)
        entry = None
        if problem is None:
            entry, problem = _shape(given, *sizes[given["image_id"]])
        if entry is not None:
            annotations.append(entry)
        if problem is not None:
            faults.append(AnnotationFault("annotation", _identity(given, place), problem))
    renumbered = _renumber(annotations)
    kept = {**content, "categories": categories, "images": images, "annotations": annotations}
    return Checked(kept, tuple(faults), renumbered)


def _identity(entry: object, place: int) -> Any:
    return entry.get("id", f"#{place}") if isinstance(entry, dict) else f"#{place}"


def _sound(
    entries: list[Any],
    kind: str,
    problem: Callable[[Entry], str | None],
    faults: list[AnnotationFault],
) -> list[Entry]:
    """The entries without a problem whose id no earlier one has."""
    kept: dict[int, Entry] = {}
    for place, entry in enumerate(entries):
        found = "it is no mapping" if not isinstance(entry, dict) else None
        if found is None and not _whole(entry.get("id")):
            found = f"its id is {entry.get('id')!r}, must be a whole number"
        if found is None and entry["id"] in kept:
            found = "its id is used before"
        found = found or problem(entry)
        if found is None:
            kept[entry["id"]] = entry
        else:
            faults.append(AnnotationFault(kind, _identity(entry, place), found))
    return list(kept.values())


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def leaves_folder(file_name: str) -> bool:
    """Whether an image's name points outside of the folder that it is relative to."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _category_problem(entry: Entry) -> str | None:
    if not isinstance(entry.get("name"), str) or not entry["name"]:
        return "it has no name"
    return None


def _image_problem(entry: Entry) -> str | None:
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        return "it has no file_name"
    if leaves_folder(entry["file_name"]):
        return f"its file_name {entry['file_name']!r} leads out of the folder of images"
    size: list[Any] = [entry.get("width"), entry.get("height")]
    if not all(_whole(side) and 0 < side < 2**31 for side in size):
        return f"its width and height are {size}, must be whole numbers above 0"
    return None


def _reference_problem(
    entry: object, sizes: Mapping[int, object], known: set[int], seen: set[Any]
) -> str | None:
    """What is wrong with an annotation's ids; notes its own in ``seen``."""
    if not isinstance(entry, dict):
        return "it is no mapping"
    if "id" in entry:
        if not _whole(entry["id"]):
            return f"its id is {entry['id']!r}, must be a whole number"
        if entry["id"] in seen:
            return "its id is used before"
        seen.add(entry["id"])
    for key, listed, what in (("image_id", sizes, "image"), ("category_id", known, "category")):
        value = entry.get(key)
        if not _whole(value) or value not in listed:
            return f"there is no usable {what} {value!r}"
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"its iscrowd is {entry['iscrowd']!r}, must be 0 or 1"
    return None


def _shape(entry: Entry, height: int, width: int) -> tuple[Entry | None, str | None]:
    """An annotation with what was missing filled in, or None; and what is wrong, if anything."""
    segmentation, warning = entry.get("segmentation"), None
    if isinstance(segmentation, list):
        parts = [part for part in segmentation if _part_problem(part) is None]
        if len(parts) < len(segmentation):
            warning = next(filter(None, map(_part_problem, segmentation)))
        if not parts:
            return None, warning or "it has no polygon"
        if warning is not None:
            entry = {**entry, "segmentation": parts}
            warning = f"{len(segmentation) - len(parts)} of its polygons are left out: {warning}"
    elif isinstance(segmentation, dict):
        problem = rle.problem(segmentation, height, width)
        if problem is not None:
            return None, problem
    else:
        return None, "it has no segmentation"
    filled = _filled(entry, height, width)
    problem = _box_problem(filled["bbox"], height, width)
    if problem is None and not (_number(filled["area"]) and filled["area"] >= 0):
        problem = f"its area is {filled['area']!r}"
    return (None, problem) if problem is not None else (filled, warning)


def _part_problem(part: object) -> str | None:
    if not isinstance(part, list) or not all(map(_number, part)):
        return "a polygon is no list of finite numbers"
    if len(part) % 2 or len(part) < 6:
        return f"a polygon of {len(part)} numbers is not three points or more"
    if max(map(abs, part)) > 1e6:
        return f"a polygon reaches {max(part, key=abs):g} pixels from the corner"
    return None


def _box_problem(box: object, height: int, width: int) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_number, box)):
        return f"its bbox is {str(box)[:80]}, must be four finite numbers x, y, width, height"
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return f"its bbox {box} is empty"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"its bbox {box} lies outside its image of {width} x {height}"
    return None


def _filled(entry: Entry, height: int, width: int) -> Entry:
    """An annotation with box, area and crowd flag; what is missing is taken from its mask."""
    if all(key in entry for key in ("bbox", "area", "iscrowd")):
        return entry
    coded: Any = entry["segmentation"]
    if isinstance(coded, list):
        coded = mask_tools.merge(mask_tools.frPyObjects(coded, height, width))
    else:
        coded = {"size": [height, width], "counts": rle.compress(coded)}
    return {
        "bbox": mask_tools.toBbox(coded).tolist(),
        "area": float(mask_tools.area(coded)),
        "iscrowd": 0,
        **entry,
    }


def _renumber(annotations: list[Entry]) -> int:
    """Give ids to annotations without one or of id 0, which COCO's evaluator never matches."""
    free = max((entry.get("id", 0) for entry in annotations), default=0) + 1
    changed = 0
    for place, entry in enumerate(annotations):
        if entry.get("id", 0) <= 0:
            annotations[place] = {**entry, "id": max(free, 1) + changed}
            changed += 1
    return changed
