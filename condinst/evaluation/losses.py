"""Why AP was lost, by kind of error: TIDE (Bolya et al., arXiv 2008.08115), by hotcoco.

Each kind says by how many points AP50 would rise if all errors of that kind alone were put right.
The gains do not add up to what is missing: errors hide one another.
"""

from __future__ import annotations

from dataclasses import dataclass

from condinst.evaluation import backends
from condinst.evaluation.inputs import (
    Annotations,
    Detections,
    GroundTruth,
    load_detections,
    load_ground_truth,
)

TASKS = ("bbox", "segm")  # TIDE knows no boundaries
KINDS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, IoU 0.1 to 0.5",
    "Both": "wrong class, IoU 0.1 to 0.5",
    "Dupe": "found once more",
    "Bkg": "nothing is there",
    "Miss": "not found",
}


@dataclass(frozen=True)
class LostAp:
    """What a result lost on one task.

    Attributes:
        ap50: AP at IoU 0.50, in percent.
        gains: Kind of error to points of AP50 that putting it right would give.
        counts: Kind of error to their number.
    """

    ap50: float
    gains: dict[str, float]
    counts: dict[str, int]


def lost_ap(
    annotations: Annotations | GroundTruth,
    detections: Detections,
    *,
    task: str = "segm",
    max_dets: int = 100,
) -> LostAp:
    """Sorts the errors of a result by kind.

    Args:
        annotations: COCO ground truth, a file or its content.
        detections: COCO results, a file or its content; may be empty.
        task: `bbox` or `segm`.
        max_dets: Limit on detections an image and category.

    Raises:
        UserError: If the input is not in COCO's form or does not belong together.
    """
    truth = load_ground_truth(annotations).of(task)
    found = backends.tide(task, truth, load_detections(detections, truth, task), max_dets)
    return LostAp(
        100 * max(found["ap_base"], 0.0),
        {kind: 100 * found["delta_ap"][kind] for kind in KINDS},
        {kind: int(found["counts"][kind]) for kind in KINDS},
    )
