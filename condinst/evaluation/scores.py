"""The twelve COCO numbers a task, from accumulated precision and recall.

Shapes: T = 10 IoU thresholds, R = 101 recall thresholds, K = categories, A = 4 ranges of area
(all, small, medium, large), M = 3 limits on detections an image and category.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from condinst.metrics import NUMBERS

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2))
CURVE_IOUS = {"0.50": slice(0, 1), "0.75": slice(5, 6), "0.50:0.95": slice(0, 10)}


def detection_limits(max_dets: int) -> tuple[int, int, int]:
    """The three limits on detections an image and category; COCO's are 1, 10, 100."""
    return min(1, max_dets), min(10, max_dets), max_dets


class Accumulated(NamedTuple):
    """What an evaluator accumulates; -1 where a category has no object to find.

    Attributes:
        precision: (T, R, K, A) at the largest limit on detections.
        recall: (T, K, A, M).
    """

    precision: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True)
class PrCurve:
    """Precision at recall 0, 0.01, ..., 1, both from 0 to 1.

    Attributes:
        task: `bbox`, `segm` or `boundary`.
        iou: `0.50`, `0.75` or `0.50:0.95` (mean over the ten thresholds).
        category: Name of the category, or `all` for their mean.
        precision: 101 values.
    """

    task: str
    iou: str
    category: str
    precision: tuple[float, ...]


@dataclass(frozen=True)
class CocoScores:
    """COCO scores of one set of detections.

    Attributes:
        metrics: Task to name (`NUMBERS`) to percent; None where nothing is there to find. With
            `max_dets` other than 100, AP and AR100 are taken at that limit.
        per_class: Task to category name to the same twelve.
        curves: Precision over recall, for every category and their mean.
        evaluator: The library that measured.
        version: Its version.
    """

    metrics: Mapping[str, Mapping[str, float | None]]
    per_class: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    curves: tuple[PrCurve, ...]
    evaluator: str
    version: str


def summarise(accumulated: Accumulated) -> dict[str, float | None]:
    """The twelve numbers in percent, to the last digit as pycocotools averages them."""
    precision, recall = accumulated

    def mean(values: np.ndarray) -> float | None:
        values = values[values > -1]
        return float(np.mean(values)) * 100 if values.size else None

    everywhere, small, medium, large = (precision[..., area] for area in range(4))
    found = [mean(p) for p in (everywhere, everywhere[:1], everywhere[5:6], small, medium, large)]
    found += [mean(recall[:, :, 0, limit]) for limit in range(3)]
    found += [mean(recall[:, :, area, 2]) for area in (1, 2, 3)]
    return dict(zip(NUMBERS, found, strict=True))


def summarise_classes(
    accumulated: Accumulated, names: list[str]
) -> dict[str, dict[str, float | None]]:
    """The twelve numbers of every category."""
    precision, recall = accumulated
    return {
        name: summarise(Accumulated(precision[:, :, k : k + 1], recall[:, k : k + 1]))
        for k, name in enumerate(names)
    }


def curves(task: str, accumulated: Accumulated, names: list[str]) -> Iterator[PrCurve]:
    """Precision over recall of each category that has objects, and their mean."""
    precision = accumulated.precision[..., 0]  # (T, R, K)
    present = np.flatnonzero(precision[0, 0] > -1)
    for iou, rows in CURVE_IOUS.items():
        curve = precision[rows][:, :, present].mean(axis=0)  # (R, present)
        if present.size:
            yield PrCurve(task, iou, "all", tuple(curve.mean(axis=1).tolist()))
        for column, k in enumerate(present):
            yield PrCurve(task, iou, names[k], tuple(curve[:, column].tolist()))
