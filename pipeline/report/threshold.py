"""From which score on predictions are worth drawing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.report.collect import Record

FEW = 3  # drawn an image where no score parts good from bad
_ENOUGH = 500  # images that the score is sought on
_HOPELESS = 0.05  # F1


def worth_drawing(
    detections: Sequence[Record], truth: Mapping[int, Sequence[Record]]
) -> tuple[dict[int, list[Record]], str]:
    """Detections by image that are drawn, best first, and the rule in words.

    Args:
        detections: In COCO's result format.
        truth: Image id to its annotations.
    """
    by_image: dict[int, list[Record]] = defaultdict(list)
    for entry in sorted(detections, key=lambda entry: -entry["score"]):
        by_image[entry["image_id"]].append(entry)
    score, quality = best_score(by_image, truth)
    if quality < _HOPELESS:
        few = {number: entries[:FEW] for number, entries in by_image.items()}
        return few, f"No score parts good predictions from bad: the best {FEW} an image are drawn."
    kept = {
        number: [entry for entry in entries if entry["score"] >= score]
        for number, entries in by_image.items()
    }
    rule = (
        f"Predictions of a score from {score:.2f} are drawn, where misses and false alarms balance."
    )
    return kept, rule


def best_score(
    found: Mapping[int, Sequence[Record]], truth: Mapping[int, Sequence[Record]]
) -> tuple[float, float]:
    """The score whose detections have the best F1 by box at IoU 0.5, and that F1.

    Args:
        found: Image id to its detections, best first.
        truth: Image id to its annotations; crowds are left out.
    """
    hits: list[tuple[float, bool]] = []
    objects = 0
    for number in sorted(truth)[:_ENOUGH]:
        wanted = [entry for entry in truth[number] if not entry.get("iscrowd")]
        objects += len(wanted)
        hits += _hits(found.get(number, ()), wanted)
    if not hits or not objects:
        return 1.0, 0.0
    hits.sort(key=lambda hit: -hit[0])
    right = np.cumsum([hit for _, hit in hits])
    f1 = 2 * right / (np.arange(1, len(hits) + 1) + objects)
    best = int(f1.argmax())
    return int(hits[best][0] * 100) / 100, float(f1[best])


def _hits(entries: Sequence[Record], wanted: Sequence[Record]) -> list[tuple[float, bool]]:
    """Each detection's score, and whether it is the first on an object of its class."""
    free = list(wanted)
    hits = []
    for entry in entries:
        same = [one for one in free if one["category_id"] == entry["category_id"]]
        match = max(same, key=lambda one: _iou(one["bbox"], entry["bbox"]), default=None)
        hit = match is not None and _iou(match["bbox"], entry["bbox"]) >= 0.5
        if hit:
            free.remove(match)
        hits.append((float(entry["score"]), hit))
    return hits


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = a[2] * a[3] + b[2] * b[3] - shared
    return shared / union if union > 0 else 0.0
