"""COCO scores of a model's detections, and how far to trust them and their differences."""

from condinst.evaluation.bootstrap import (
    EVERY,
    Difference,
    Interval,
    Samples,
    check_same_data,
    confidence_intervals,
    differences,
    image_draws,
    paired_bootstrap,
    sample,
)
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.inputs import GroundTruth, load_ground_truth
from condinst.evaluation.losses import KINDS, LostAp, lost_ap
from condinst.evaluation.matching import Matches, match_detections
from condinst.evaluation.prediction import as_coco, predict_dataset
from condinst.evaluation.quality import ImageQuality, image_qualities
from condinst.evaluation.scores import NUMBERS, CocoScores, PrCurve
from condinst.evaluation.verdict import Verdict, judge

__all__ = [
    "EVERY",
    "KINDS",
    "NUMBERS",
    "CocoScores",
    "Difference",
    "GroundTruth",
    "ImageQuality",
    "Interval",
    "LostAp",
    "Matches",
    "PrCurve",
    "Samples",
    "Verdict",
    "as_coco",
    "check_same_data",
    "confidence_intervals",
    "differences",
    "evaluate_coco",
    "image_draws",
    "image_qualities",
    "judge",
    "load_ground_truth",
    "lost_ap",
    "match_detections",
    "paired_bootstrap",
    "predict_dataset",
    "sample",
]
