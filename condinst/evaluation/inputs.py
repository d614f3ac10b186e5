"""Ground truth and detections, checked and in one form for all evaluators.

Every evaluator gets the same annotations: renumbered from 1 (the COCO tools read the annotation
id 0 as "not matched"), with masks as compressed RLE. Nothing given by the caller is changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pycocotools import mask as rle_tools

from condinst.errors import UserError
from condinst.metrics import TASKS

Annotations = str | Path | Mapping[str, Any]
Detections = str | Path | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class GroundTruth:
    """A COCO ground truth.

    Attributes:
        images: Image entries, by ascending id.
        categories: Category entries, by ascending id.
        annotations: Object entries in the file's order, `id` renumbered from 1.
    """

    images: tuple[Mapping[str, Any], ...]
    categories: tuple[Mapping[str, Any], ...]
    annotations: tuple[Mapping[str, Any], ...] = field(repr=False)

    @cached_property
    def image_ids(self) -> list[int]:
        """Image ids, ascending."""
        return [image["id"] for image in self.images]

    @cached_property
    def category_ids(self) -> list[int]:
        """Category ids, ascending."""
        return [category["id"] for category in self.categories]

    @cached_property
    def category_names(self) -> list[str]:
        """One name a category; a name used twice carries its id."""
        names = [str(category.get("name", category["id"])) for category in self.categories]
        return [
            name if names.count(name) == 1 else f"{name} ({number})"
            for name, number in zip(names, self.category_ids, strict=True)
        ]

    @property
    def without_masks(self) -> int:
        """How many objects have only a box; crowd regions are not counted."""
        return sum(
            not entry.get("segmentation") and not entry["iscrowd"] for entry in self.annotations
        )

    def of(self, task: str) -> GroundTruth:
        """The ground truth of a task.

        For `segm` and `boundary`, objects with only a box are regions in which detections are
        neither right nor wrong, as crowds are.
        """
        if task == "bbox" or all(entry.get("segmentation") for entry in self.annotations):
            return self
        entries = tuple(
            entry
            if entry.get("segmentation")
            else {**entry, "iscrowd": 1, "segmentation": _outline(entry["bbox"])}
            for entry in self.annotations
        )
        return GroundTruth(self.images, self.categories, entries)

    @cached_property
    def masks(self) -> list[dict[str, Any]]:
        """The annotations' masks as compressed RLE."""
        sizes = {image["id"]: (image["height"], image["width"]) for image in self.images}
        return [
            as_rle(entry["segmentation"], sizes[entry["image_id"]]) for entry in self.annotations
        ]


def _outline(box: Sequence[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def as_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A COCO segmentation (polygons, plain or compressed RLE) as compressed RLE.

    Args:
        segmentation: As COCO files hold it.
        size: Height and width of the image.
    """
    if isinstance(segmentation, list):
        return rle_tools.merge(rle_tools.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return rle_tools.frPyObjects(segmentation, *segmentation["size"])
    return segmentation


def load_ground_truth(annotations: Annotations | GroundTruth) -> GroundTruth:
    """Reads and checks a COCO ground truth.

    Args:
        annotations: A file, or its content.

    Raises:
        UserError: If the file is no COCO ground truth.
    """
    if isinstance(annotations, GroundTruth):
        return annotations
    content, name = _read(annotations, "annotations")
    if not isinstance(content, Mapping):
        raise UserError(f"{name} must hold a mapping with images, annotations and categories")
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise UserError(f"{name} lacks {', '.join(missing)}: give a COCO ground-truth file")
    images = tuple(sorted(content["images"], key=lambda entry: entry["id"]))
    categories = tuple(sorted(content["categories"], key=lambda entry: entry["id"]))
    known_images = {entry["id"] for entry in images}
    known_categories = {entry["id"] for entry in categories}
    if not images:
        raise UserError(f"{name} holds no images: there is nothing to evaluate on")
    entries = []
    for number, entry in enumerate(content["annotations"], start=1):
        lacking = {"image_id", "category_id", "bbox", "area"} - entry.keys()
        if lacking:
            raise UserError(f"{name}: annotation {number} lacks {', '.join(sorted(lacking))}")
        if entry["image_id"] not in known_images or entry["category_id"] not in known_categories:
            raise UserError(
                f"{name}: annotation {number} belongs to image {entry['image_id']} and category "
                f"{entry['category_id']}, which the file does not list"
            )
        entries.append({**entry, "id": number, "iscrowd": int(entry.get("iscrowd", 0))})
    return GroundTruth(images, categories, tuple(entries))


def load_detections(detections: Detections, truth: GroundTruth, task: str) -> list[dict[str, Any]]:
    """Reads and checks detections, and gives each the area that `task` measures it by.

    Args:
        detections: A file in COCO's result format, or its content.
        truth: What they are measured against.
        task: `bbox` (area of the box), `segm` or `boundary` (area of the mask, whatever the box).

    Returns:
        Entries with `image_id`, `category_id`, `score`, `area` and `bbox` or `segmentation`.

    Raises:
        UserError: If entries lack something or belong to other data.
    """
    assert task in TASKS, task
    content, name = _read(detections, "detections")
    if isinstance(content, Mapping) or not isinstance(content, Sequence):
        raise UserError(f"{name} must hold a list, COCO's result format")
    key = "bbox" if task == "bbox" else "segmentation"
    images, categories = set(truth.image_ids), set(truth.category_ids)
    entries = []
    for number, entry in enumerate(content):
        lacking = {"image_id", "category_id", "score", key} - entry.keys()
        if lacking:
            raise UserError(
                f"{name}: detection {number} lacks {', '.join(sorted(lacking))}, needed for {task}"
            )
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise UserError(
                f"{name}: detection {number} belongs to image {entry['image_id']} and category "
                f"{entry['category_id']}, which the ground truth does not list: "
                "were the detections made on other data?"
            )
        if not math.isfinite(entry["score"]):
            raise UserError(f"{name}: detection {number} has the score {entry['score']}")
        entries.append({k: entry[k] for k in ("image_id", "category_id", "score", key)})
    if task == "bbox":
        for entry in entries:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    else:
        sizes = {image["id"]: (image["height"], image["width"]) for image in truth.images}
        for entry in entries:
            entry["segmentation"] = as_rle(entry["segmentation"], sizes[entry["image_id"]])
            entry["area"] = int(rle_tools.area(entry["segmentation"]))  # a list of 256 overflows
    return entries


def _read(source: Any, kind: str) -> tuple[Any, str]:
    if not isinstance(source, (str, Path)):
        return source, f"the {kind}"
    path = Path(source)
    try:
        return json.loads(path.read_bytes()), str(path)
    except OSError as error:
        raise UserError(f"{kind}: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{kind}: {path} is no JSON: {error}") from error
