"""The libraries that measure: pycocotools, the reference, and hotcoco behind a parity gate.

Neither is installed over the other's name: replacing pycocotools in `sys.modules`, as hotcoco
offers, breaks detectron2's import.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from condinst.errors import UserError
from condinst.evaluation.inputs import GroundTruth
from condinst.evaluation.scores import Accumulated, detection_limits

BACKENDS = ("pycocotools", "hotcoco")
# Versions whose 24 numbers the tests found identical to pycocotools' on random and published data
# (`python -m benchmarks evaluation`).
TRUSTED = {"hotcoco": ("1.3.0",)}

logger = logging.getLogger(__name__)


def choose(name: str) -> tuple[str, str]:
    """The evaluator to use and its version.

    Args:
        name: `auto` (a fast one if installed in a version that passed the parity tests, else
            pycocotools) or a name in `BACKENDS`.

    Raises:
        UserError: If it is unknown or not installed.
    """
    if name == "auto":
        for fast, versions in TRUSTED.items():
            found = _version(fast)
            if found in versions:
                return fast, found
            if found:
                logger.warning(
                    "%s %s has not passed the parity tests: measuring with pycocotools", fast, found
                )
        name = "pycocotools"
    if name not in BACKENDS:
        raise UserError(f"evaluate.backend is {name!r}, must be one of auto, {', '.join(BACKENDS)}")
    found = _version(name)
    if found is None:
        raise UserError(
            f"evaluate.backend is {name!r}, which is not installed: install {name}, or choose auto"
        )
    return name, found


def accumulate(
    backend: str, task: str, truth: GroundTruth, detections: list[dict[str, Any]], max_dets: int
) -> Accumulated:
    """Measures with one library.

    Args:
        backend: A name in `BACKENDS`.
        task: `bbox` or `segm`.
        truth: Ground truth.
        detections: As `load_detections` gives them for `task`.
        max_dets: Limit on detections an image and category.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        measured = _matched(backend, task, truth, detections, max_dets)
        measured.accumulate()
    precision = np.asarray(measured.eval["precision"])  # (T, R, K, A, M)
    recall = np.asarray(measured.eval["recall"])  # (T, K, A, M)
    return Accumulated(precision[..., -1], recall)


def tide(
    task: str, truth: GroundTruth, detections: list[dict[str, Any]], max_dets: int
) -> dict[str, Any]:
    """What hotcoco's TIDE analysis says; arguments as of `accumulate`."""
    return _matched("hotcoco", task, truth, detections, max_dets).tide_errors()


def _matched(
    backend: str, task: str, truth: GroundTruth, detections: list[dict[str, Any]], max_dets: int
) -> Any:
    dataset, evaluator = _classes(backend)
    measured = evaluator(
        dataset(truth, _ground_truth(truth, task)), dataset(truth, _results(detections)), task
    )
    measured.params.maxDets = list(detection_limits(max_dets))
    measured.evaluate()
    return measured


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _classes(backend: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A maker of the library's dataset object from plain entries, and its evaluator."""
    if backend == "hotcoco":
        from hotcoco import COCO, COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    def make(truth: GroundTruth, annotations: list[dict[str, Any]]) -> Any:
        content = {
            "images": [dict(image) for image in truth.images],
            "categories": [dict(category) for category in truth.categories],
            "annotations": annotations,
        }
        if backend == "hotcoco":
            return COCO(content)
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
        return coco

    return make, COCOeval


def _ground_truth(truth: GroundTruth, task: str) -> list[dict[str, Any]]:
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    entries = [{key: entry[key] for key in keys} for entry in truth.annotations]
    if task == "segm":
        for entry, mask in zip(entries, truth.masks, strict=True):
            entry["segmentation"] = mask
    return entries


def _results(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entry, "id": number, "iscrowd": 0} for number, entry in enumerate(detections, 1)]
