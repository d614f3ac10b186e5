"""Precision and recall of matches in which each image counts a given number of times.

With every weight 1 this is what pycocotools accumulates, to the last bit. A weight of 2 equals the
image standing in the dataset twice.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from condinst.cores import available_cores
from condinst.evaluation import kernels
from condinst.evaluation.kernels import Events, Scratch
from condinst.evaluation.matching import ALL_THRESHOLDS, Matches
from condinst.evaluation.scores import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    NUMBERS,
    RECALL_THRESHOLDS,
    Accumulated,
    detection_limits,
)

AREAS, THRESHOLDS, RECALLS = len(AREA_RANGES), len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)


def group_events(matches: Matches, by: str = "category") -> Events:
    """Groups what counts by category, as COCO does, or by image, for the quality of single images.

    Args:
        matches: Of one task.
        by: `category` or `image`.
    """
    assert by in ("category", "image"), by
    by_category = by == "category"
    group = matches.category if by_category else matches.image
    groups = len(matches.category_names if by_category else matches.image_ids)
    order = np.lexsort((-matches.score, group))  # stable: ties in the order of images
    counting = ((matches.true | matches.false) != 0)[order]  # (D, A)
    rows = [order[counting[:, area]] for area in range(AREAS)]
    row = np.concatenate(rows)  # (E,)
    area = np.repeat(np.arange(AREAS), [len(part) for part in rows])
    place = group[row].astype(np.int64) * AREAS + area
    order = np.argsort(place, kind="stable")
    place, area, row = place[order], area[order], row[order]
    return Events(
        starts=np.searchsorted(place, np.arange(groups * AREAS + 1)),
        image=matches.image[row],
        rank=matches.rank[row],
        true=matches.true[row, area],
        false=matches.false[row, area],
        everywhere=np.array([ALL_THRESHOLDS], dtype=np.uint16),
        objects=matches.object_category if by_category else matches.object_image,
        object_image=matches.object_image,
        object_counts=matches.object_counts,
        limits=np.array(detection_limits(matches.max_dets)),
        recalls=RECALL_THRESHOLDS,
    )


def accumulate(events: Events, weights: np.ndarray) -> Accumulated:
    """Accumulates precision and recall as pycocotools does.

    Args:
        events: Grouped.
        weights: (I,) how often each image counts.
    """
    groups = _groups(events)
    precision = np.empty((THRESHOLDS, RECALLS, groups, AREAS))
    recall = np.empty((THRESHOLDS, groups, AREAS, len(events.limits)))
    kernels.count_once(events, _scratch(events), weights.astype(np.int16), precision, recall)
    return Accumulated(precision, recall)


def draw_numbers(
    events: Events, multiplicities: np.ndarray, workers: int | None = None
) -> np.ndarray:
    """The twelve numbers of every group in every draw.

    Args:
        events: Grouped.
        multiplicities: (B, I) how often each draw holds each image.
        workers: Threads; all cores that this process may use if None.

    Returns:
        (B, C, 12) fractions; NaN where a draw holds nothing to find.
    """
    draws = len(multiplicities)
    numbers = np.empty((draws, _groups(events), len(NUMBERS)))
    workers = max(1, min(workers or available_cores(), draws))
    multiplicities = multiplicities.astype(np.int16)
    parts = np.array_split(np.arange(draws), workers)

    def run(part: np.ndarray) -> None:
        rows = slice(part[0], part[-1] + 1)
        kernels.count_draws(events, _scratch(events), multiplicities[rows], numbers[rows])

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, parts))
    return numbers


def _groups(events: Events) -> int:
    return (len(events.starts) - 1) // AREAS


def _scratch(events: Events) -> Scratch:
    longest = int(np.diff(events.starts).max(initial=1))
    return Scratch(
        positives=np.empty((_groups(events), AREAS), dtype=np.int64),
        tp=np.empty((THRESHOLDS, longest), dtype=np.int64),
        pr=np.empty((THRESHOLDS, longest)),
        hits=np.empty(THRESHOLDS, dtype=np.int64),
        fp=np.empty(THRESHOLDS, dtype=np.int64),
        recalled=np.empty((THRESHOLDS, len(events.limits)), dtype=np.int64),
        needed=np.empty(RECALLS, dtype=np.int64),
        curve=np.empty(RECALLS),
        means=np.empty(THRESHOLDS),
    )
