"""Which detection finds which object: matched once, kept in flat arrays, used by every draw.

COCO matches within one image and category, so a resampled dataset needs no new matching: an image
drawn twice contributes its matches twice. The rules are COCO's: detections by descending score
each take the free object of highest IoU at or above the threshold; objects that do not count
(crowds, or of a size outside the range) are taken only when no other is left, and make the
detection count neither as true nor as false; so does a size outside the range when nothing matches.

Shapes: I images, K categories, D detections, G objects, A = 4 ranges of area; the T = 10 IoU
thresholds are the bits of a number, lowest threshold lowest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from condinst.evaluation.boundary import lesser_ious
from condinst.evaluation.inputs import (
    TASKS,
    Annotations,
    Detections,
    GroundTruth,
    load_detections,
    load_ground_truth,
)
from condinst.evaluation.scores import AREA_RANGES, IOU_THRESHOLDS
from condinst.layers.loop_cache import cached_loop

ALL_THRESHOLDS = (1 << len(IOU_THRESHOLDS)) - 1


@dataclass(frozen=True)
class Matches:
    """Matches of one task over a dataset; rows ordered by category, image, descending score.

    Attributes:
        task: `bbox`, `segm` or `boundary`.
        image_ids: (I,) ids of all images, ascending, also those without objects.
        category_names: K names, by ascending id.
        max_dets: Limit on detections an image and category; those beyond are left out.
        image: (D,) index of the detection's image.
        category: (D,) index of its category.
        score: (D,).
        rank: (D,) place among the image's detections of the category, from 0.
        true: (D, A) bits of the thresholds at which it finds an object that counts.
        false: (D, A) bits of the thresholds at which it finds none and counts.
        object_image: (G,) index of the object's image.
        object_category: (G,) index of its category.
        object_counts: (G, A) whether it is there to be found.
    """

    task: str
    image_ids: np.ndarray
    category_names: tuple[str, ...]
    max_dets: int
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    true: np.ndarray
    false: np.ndarray
    object_image: np.ndarray
    object_category: np.ndarray
    object_counts: np.ndarray


def match_detections(
    annotations: Annotations | GroundTruth,
    detections: Detections,
    *,
    task: str = "segm",
    max_dets: int = 100,
) -> Matches:
    """Matches detections with objects.

    Args:
        annotations: COCO ground truth, a file or its content.
        detections: COCO results, a file or its content; may be empty.
        task: `bbox`, `segm` or `boundary`.
        max_dets: Limit on detections an image and category.

    Raises:
        UserError: If the input is not in COCO's form or does not belong together.
    """
    assert task in TASKS, task
    truth = load_ground_truth(annotations).of(task)
    entries = load_detections(detections, truth, task)
    image_index = {number: i for i, number in enumerate(truth.image_ids)}
    category_index = {number: i for i, number in enumerate(truth.category_ids)}
    image, category = _indices(entries, image_index, category_index)
    object_image, object_category = _indices(truth.annotations, image_index, category_index)
    score = np.array([entry["score"] for entry in entries], dtype=float)

    order = np.lexsort((-score, image, category))  # stable: ties stay in the caller's order
    pair = category[order].astype(np.int64) * len(image_index) + image[order]
    rank = np.arange(len(order)) - np.searchsorted(pair, pair, side="left")
    order, rank = order[rank < max_dets], rank[rank < max_dets]
    image, category, score = image[order], category[order], score[order]
    entries = [entries[i] for i in order]

    crowd = np.array([bool(entry["iscrowd"]) for entry in truth.annotations], dtype=bool)
    object_inside = _inside(truth.annotations)
    inside = _inside(entries)
    true = np.zeros(inside.shape, dtype=np.uint16)
    false = np.where(inside, ALL_THRESHOLDS, 0).astype(np.uint16)
    object_counts = object_inside & ~crowd[:, None]
    regions = [e["bbox"] for e in truth.annotations] if task == "bbox" else truth.masks
    key = "bbox" if task == "bbox" else "segmentation"
    object_pair = object_category.astype(np.int64) * len(image_index) + object_image
    for rows, objects in _pairs(pair_of(category, image, len(image_index)), object_pair):
        ours, theirs = [entry[key] for entry in entries[rows]], [regions[g] for g in objects]
        ious = rle_tools.iou(ours, theirs, crowd[objects].astype(np.uint8).tolist())
        if task == "boundary":
            ious = lesser_ious(ious, ours, theirs, crowd[objects])
        _match(
            np.ascontiguousarray(ious), object_counts[objects], crowd[objects], inside[rows],
            IOU_THRESHOLDS, true[rows], false[rows],
        )  # fmt: skip
    return Matches(
        task, np.array(truth.image_ids), tuple(truth.category_names), max_dets, image, category,
        score, rank.astype(np.int32), true, false, object_image, object_category, object_counts,
    )  # fmt: skip


def pair_of(category: np.ndarray, image: np.ndarray, images: int) -> np.ndarray:
    """One number for a category and an image, ascending in that order."""
    return category.astype(np.int64) * images + image


def _indices(
    entries: Any, images: dict[int, int], categories: dict[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([images[entry["image_id"]] for entry in entries], dtype=np.int32),
        np.array([categories[entry["category_id"]] for entry in entries], dtype=np.int32),
    )


def _inside(entries: Any) -> np.ndarray:
    """(N, A): whether the area lies in each range, both ends included."""
    area = np.array([entry["area"] for entry in entries], dtype=float)
    return np.stack([(area >= low) & (area <= high) for low, high in AREA_RANGES], axis=1)


def _pairs(detections: np.ndarray, objects: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The image-category pairs that have both: rows of detections, indices of objects."""
    order = np.argsort(objects, kind="stable")
    ordered = objects[order]
    for pair in np.intersect1d(detections, objects):
        rows = np.searchsorted(detections, [pair, pair + 1])
        found = np.searchsorted(ordered, [pair, pair + 1])
        yield slice(*rows), order[slice(*found)]


@cached_loop()
def _match(
    ious: np.ndarray,
    counts: np.ndarray,
    crowd: np.ndarray,
    inside: np.ndarray,
    thresholds: np.ndarray,
    true: np.ndarray,
    false: np.ndarray,
) -> None:
    """Matches the detections of one image and category; writes bits into `true` and `false`.

    Args:
        ious: (D, G) with detections by descending score.
        counts: (G, A) whether the object is there to be found.
        crowd: (G,) whether it may be found many times.
        inside: (D, A) whether the detection's size is in the range.
        thresholds: (T,).
        true: (D, A), zero.
        false: (D, A), overwritten.
    """
    detections, objects = ious.shape
    order = np.empty(objects, np.int64)
    taken = np.empty(objects, np.bool_)
    for area in range(counts.shape[1]):
        place = 0  # objects that count first, else as in the file
        for wanted in (True, False):
            for g in range(objects):
                if counts[g, area] == wanted:
                    order[place] = g
                    place += 1
        false[:, area] = 0
        for t in range(len(thresholds)):
            bit = np.uint16(1 << t)
            taken[:] = False
            for d in range(detections):
                best = -1
                best_iou = min(thresholds[t], 1 - 1e-10)
                for g in order:
                    if taken[g] and not crowd[g]:
                        continue
                    if best > -1 and counts[best, area] and not counts[g, area]:
                        break
                    if ious[d, g] >= best_iou:  # of equal ones the last, as COCO has it
                        best_iou = ious[d, g]
                        best = g
                if best > -1:
                    taken[best] = True
                    if counts[best, area]:
                        true[d, area] |= bit
                elif inside[d, area]:
                    false[d, area] |= bit
