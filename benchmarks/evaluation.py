"""COCO's evaluation of 5,000 images: the evaluators that `evaluate.backend` knows, and boundaries.

Drawn objects and detections of 80 categories at COCO val2017's numbers, boxes and masks; the same
content for each evaluator, and the 24 numbers compared. Then boundary AP against mask AP, both from
the same detections to the twelve numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle_tools

from benchmarks._rows import Row
from condinst.errors import UserError
from condinst.evaluation.coco import evaluate_coco
from condinst.timing import in_turns

SIZE = (480, 640)
CATEGORIES = 80
OBJECTS = 36_781 / 5_000  # an image, as in val2017


class Size(NamedTuple):
    """Images, and detections in each."""

    images: int = 5000
    detections: int = 30


SMOKE = Size(images=8, detections=10)


def shape(box: np.ndarray) -> dict[str, Any]:
    """COCO's entries of an ellipse (x, y, width, height)."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x = box[0] + box[2] * (1 + np.cos(angle)) / 2
    y = box[1] + box[3] * (1 + np.sin(angle)) / 2
    runs = rle_tools.frPyObjects([np.stack((x, y), 1).ravel().tolist()], *SIZE)[0]
    area = float(rle_tools.area(runs))
    runs["counts"] = runs["counts"].decode()
    return {"bbox": [float(v) for v in box], "segmentation": runs, "area": area}


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) inside the image, small ones the most."""
    size = 8 + rng.random((count, 2)) ** 2 * 220
    corner = rng.random((count, 2)) * (np.array(SIZE[::-1]) - size)
    return np.concatenate((corner, size), axis=1)


def draw(images: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth, and detections: most objects found roughly, the rest false alarms."""
    rng = np.random.default_rng(0)
    objects: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        true = boxes(rng, int(rng.poisson(OBJECTS)))
        classes = rng.integers(1, CATEGORIES + 1, detections + len(true))
        for box, kind in zip(true, classes, strict=False):
            about = {"image_id": image, "category_id": int(kind), "iscrowd": 0}
            objects.append({"id": len(objects) + 1, **about, **shape(box)})
        near = true * (1 + 0.06 * rng.normal(size=true.shape))
        alarms = boxes(rng, max(detections - len(true), 0))
        for box, kind in zip(np.concatenate((near, alarms))[:detections], classes, strict=False):
            about = {"image_id": image, "category_id": int(kind), "score": float(rng.random())}
            found.append({**about, **shape(np.maximum(box, 1))})
    truth = {
        "images": [
            {"id": i, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i}.jpg"}
            for i in range(1, images + 1)
        ],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, CATEGORIES + 1)],
        "annotations": objects,
    }
    return truth, found


Metrics = Mapping[str, Mapping[str, float | None]]


def difference(one: Metrics, other: Metrics) -> float:
    """The largest between two measurements' numbers; what is undefined in one alone is infinite."""
    apart = [0.0]
    for task, numbers in one.items():
        for name, a in numbers.items():
            b = other[task][name]
            if a is not None and b is not None:
                apart.append(abs(a - b))
            elif a is not b:
                apart.append(float("inf"))
    return max(apart)


def rows(size: Size) -> Iterator[Row]:
    """The evaluators, then masks and boundaries."""
    logging.disable(logging.WARNING)
    truth, found = draw(*size)
    counts = f"{size.images:,} images, {len(truth['annotations']):,} objects"
    table = f"COCO evaluation, boxes and masks: {counts}, {len(found):,} detections"
    theirs: Metrics = {}
    for backend, against, goal in (
        ("pycocotools", "", ""),
        ("hotcoco", "pycocotools", ">= 10 times, same 24 numbers"),
    ):
        start = time.perf_counter()
        try:
            scores = evaluate_coco(truth, found, backend=backend, tasks=("bbox", "segm"))
        except UserError as error:
            yield Row(table, backend, refused=str(error).partition(";")[0])
            continue
        seconds = [time.perf_counter() - start]
        theirs = theirs or scores.metrics
        note = f"largest difference of the 24 numbers {difference(scores.metrics, theirs):.0e}"
        yield Row(table, backend, seconds, against, goal, note=note if against else "")
    table = f"Mask and boundary AP: {counts}, {len(found):,} detections"
    evaluate_coco(truth, found, tasks=("boundary",))  # compiles
    names = {"masks": "segm", "boundaries": "boundary"}
    tasks = {what: partial(evaluate_coco, truth, found, tasks=(x,)) for what, x in names.items()}
    taken = in_turns(tasks, 3)
    yield Row(table, "masks", taken["masks"])
    yield Row(table, "boundaries", taken["boundaries"], "masks", ">= 0.33 times")
