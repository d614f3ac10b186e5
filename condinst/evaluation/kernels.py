"""The compiled loops of `accumulating`; they release the interpreter's lock.

Shapes: E events, C groups, A = 4 ranges of area, T = 10 IoU thresholds, R = 101 recalls, I images,
G objects, M = 3 limits on detections, B draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from condinst.layers.loop_cache import cached_loop, forget_stale

EPSILON = float(np.spacing(1))  # pycocotools adds it to every denominator of a precision


class Events(NamedTuple):
    """Detections that count, grouped, by descending score within group and range of area.

    Attributes:
        starts: (C * A + 1,) where the events of each group and range of area begin.
        image: (E,) index of the image.
        rank: (E,) place among the image's detections of the category.
        true: (E,) bits of the thresholds at which the event is a true positive.
        false: (E,) bits of those at which it is a false positive.
        everywhere: (1,) the bits of all thresholds.
        objects: (G,) group of each object.
        object_image: (G,) its image.
        object_counts: (G, A) whether it counts.
        limits: (M,) on detections of an image and category.
        recalls: (R,) recalls at which precision is read.
    """

    starts: np.ndarray
    image: np.ndarray
    rank: np.ndarray
    true: np.ndarray
    false: np.ndarray
    everywhere: np.ndarray
    objects: np.ndarray
    object_image: np.ndarray
    object_counts: np.ndarray
    limits: np.ndarray
    recalls: np.ndarray


class Scratch(NamedTuple):
    """Room that one thread works in; N is the most events of a group and range of area.

    Attributes:
        positives: (C, A) objects to be found.
        tp: (T, N) true positives so far, at each true positive.
        pr: (T, N) precision there.
        hits: (T,) how many entries of `tp` and `pr` are filled.
        fp: (T,) false positives so far.
        recalled: (T, M) true positives within each limit.
        needed: (R,) least number of true positives for each recall.
        curve: (R,) precision at each recall.
        means: (T,) their mean.
    """

    positives: np.ndarray
    tp: np.ndarray
    pr: np.ndarray
    hits: np.ndarray
    fp: np.ndarray
    recalled: np.ndarray
    needed: np.ndarray
    curve: np.ndarray
    means: np.ndarray


@cached_loop(nogil=True)
def count_once(
    events: Events, scratch: Scratch, weights: np.ndarray, precision: np.ndarray, recall: np.ndarray
) -> None:
    """Writes precision (T, R, C, A) and recall (T, C, A, M); -1 where nothing is to be found."""
    thresholds, _, groups, areas = precision.shape
    _count_objects(events, weights, scratch.positives)
    precision[:] = -1
    recall[:] = -1
    for group in range(groups):
        for area in range(areas):
            positives = scratch.positives[group, area]
            if positives == 0:
                continue
            _walk(events, scratch, group * areas + area, weights)
            _count_needed(positives, events.recalls, scratch.needed)
            for t in range(thresholds):
                _read_precision(scratch, t)
                precision[t, :, group, area] = scratch.curve
                for m in range(recall.shape[3]):
                    recall[t, group, area, m] = scratch.recalled[t, m] / positives


@cached_loop(nogil=True)
def count_draws(
    events: Events, scratch: Scratch, multiplicities: np.ndarray, numbers: np.ndarray
) -> None:
    """Writes the twelve numbers (B, C, 12) for the images of each draw (B, I), as fractions."""
    thresholds = len(scratch.hits)
    groups, areas = scratch.positives.shape
    numbers[:] = np.nan
    for draw in range(len(multiplicities)):
        weights = multiplicities[draw]
        _count_objects(events, weights, scratch.positives)
        for group in range(groups):
            row = numbers[draw, group]
            for area in range(areas):
                positives = scratch.positives[group, area]
                if positives == 0:
                    continue
                _walk(events, scratch, group * areas + area, weights)
                _count_needed(positives, events.recalls, scratch.needed)
                for t in range(thresholds):
                    _read_precision(scratch, t)
                    scratch.means[t] = scratch.curve.mean()
                if area == 0:
                    row[0] = scratch.means.mean()
                    row[1] = scratch.means[0]
                    row[2] = scratch.means[5]
                    for m in range(3):
                        row[6 + m] = scratch.recalled[:, m].sum() / (thresholds * positives)
                else:
                    row[2 + area] = scratch.means.mean()
                    row[8 + area] = scratch.recalled[:, 2].sum() / (thresholds * positives)


@cached_loop(nogil=True)
def _walk(events: Events, scratch: Scratch, place: int, weights: np.ndarray) -> None:
    """Goes down the events of one group and range of area and notes every true positive."""
    thresholds, limits = scratch.recalled.shape
    image, true, false = events.image, events.true, events.false
    scratch.hits[:] = 0
    scratch.fp[:] = 0
    scratch.recalled[:] = 0
    shared_fp = 0  # false at every threshold, as nearly all false positives are
    everywhere = events.everywhere[0]
    for e in range(events.starts[place], events.starts[place + 1]):
        weight = np.int64(weights[image[e]])
        yes, no = true[e], false[e]
        if yes == 0 and no == everywhere:  # before asking for the weight: that would be a guess
            shared_fp += weight
            continue
        if weight == 0:
            continue
        for t in range(thresholds):
            bit = 1 << t
            if yes & bit:
                for m in range(limits):
                    if events.rank[e] < events.limits[m]:
                        scratch.recalled[t, m] += weight
                so_far = scratch.recalled[t, limits - 1]
                hit = scratch.hits[t]
                scratch.tp[t, hit] = so_far
                scratch.pr[t, hit] = so_far / (float(scratch.fp[t] + shared_fp + so_far) + EPSILON)
                scratch.hits[t] = hit + 1
            elif no & bit:
                scratch.fp[t] += weight


@cached_loop(nogil=True)
def _read_precision(scratch: Scratch, t: int) -> None:
    """The highest precision at or past each recall, 0 where it is not reached, into `curve`."""
    tp, pr, curve = scratch.tp[t], scratch.pr[t], scratch.curve
    place = scratch.hits[t] - 1
    most = tp[place] if place >= 0 else -1
    highest = 0.0
    for r in range(len(curve) - 1, -1, -1):
        while place >= 0 and tp[place] >= scratch.needed[r]:
            highest = max(highest, pr[place])
            place -= 1
        curve[r] = highest if most >= scratch.needed[r] else 0.0


@cached_loop(nogil=True)
def _count_needed(positives: int, recalls: np.ndarray, needed: np.ndarray) -> None:
    """The least true positives whose share reaches each recall, compared as floats."""
    for r in range(len(recalls)):
        least = int(recalls[r] * positives)
        while least > 0 and (least - 1) / positives >= recalls[r]:
            least -= 1
        while least / positives < recalls[r]:
            least += 1
        needed[r] = least


@cached_loop(nogil=True)
def _count_objects(events: Events, weights: np.ndarray, positives: np.ndarray) -> None:
    positives[:] = 0
    for g in range(len(events.objects)):
        for area in range(positives.shape[1]):
            if events.object_counts[g, area]:
                positives[events.objects[g], area] += weights[events.object_image[g]]


forget_stale(count_once, Path(__file__).parent)
