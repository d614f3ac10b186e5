"""Names of tasks and of COCO's twelve metrics, the same in files, tables, MLflow and messages."""

from typing import Final

TASKS: Final = ("bbox", "segm", "boundary")
MASK_TASKS: Final = ("segm", "boundary")  # undefined without masks
WORDS: Final = {"segm": "mask", "boundary": "boundary", "bbox": "box"}  # as tables show them
MEANINGS: Final = {
    "AP": "average precision, mean over IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50: found, roughly outlined",
    "AP75": "at IoU 0.75: found, well outlined",
    "APs": "small objects, below 32 x 32 pixels",
    "APm": "medium objects",
    "APl": "large objects, above 96 x 96 pixels",
    "AR1": "average recall with 1 detection per image",
    "AR10": "average recall with 10",
    "AR100": "average recall with 100",
    "ARs": "recall of small objects",
    "ARm": "recall of medium objects",
    "ARl": "recall of large objects",
}
NUMBERS: Final = tuple(MEANINGS)
METRICS: Final = tuple(f"{task}/{name}" for task in TASKS for name in NUMBERS)
