"""COCO average precision of boxes, masks and their boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from condinst.errors import UserError
from condinst.evaluation import accumulating, backends, scores
from condinst.evaluation.inputs import (
    TASKS,
    Annotations,
    Detections,
    GroundTruth,
    load_detections,
    load_ground_truth,
)
from condinst.evaluation.matching import Matches, match_detections
from condinst.evaluation.scores import Accumulated, CocoScores


def evaluate_coco(
    annotations: Annotations | GroundTruth,
    detections: Detections,
    *,
    backend: str = "auto",
    tasks: Sequence[str] = TASKS,
    max_dets: int = 100,
    matches: Mapping[str, Matches] | None = None,
) -> CocoScores:
    """Measures detections as COCO does.

    Masks are ranged as small, medium and large by the area of the mask, not of the box that
    stands beside it, as detectron2 does.

    Args:
        annotations: COCO ground truth, a file or its content.
        detections: COCO results, a file or its content; may be empty.
        backend: `auto`, `pycocotools` or `hotcoco`; none of them knows boundaries, which are
            matched by our own `match_detections`.
        tasks: Of `bbox`, `segm` and `boundary`.
        max_dets: Limit on detections an image and category.
        matches: Task to matches that were made of the same before.

    Returns:
        The scores, in percent.

    Raises:
        UserError: If the input is not in COCO's form, does not belong together, or the backend is
            not there.
    """
    if max_dets < 1:
        raise UserError(f"max_dets is {max_dets}, must be at least 1")
    name, version = backends.choose(backend)
    truth = load_ground_truth(annotations)
    metrics, per_class, curves = {}, {}, []
    for task in tasks:
        if task == "boundary":
            own = (matches or {}).get(task)
            own = own or match_detections(truth, detections, task=task, max_dets=max_dets)
            found = _accumulated(own)
        else:
            entries = load_detections(detections, truth, task)
            found = backends.accumulate(name, task, truth.of(task), entries, max_dets)
        metrics[task] = scores.summarise(found)
        per_class[task] = scores.summarise_classes(found, truth.category_names)
        curves += scores.curves(task, found, truth.category_names)
    return CocoScores(metrics, per_class, tuple(curves), name, version)


def _accumulated(matches: Matches) -> Accumulated:
    once = np.ones(len(matches.image_ids), dtype=np.int64)
    return accumulating.accumulate(accumulating.group_events(matches), once)
