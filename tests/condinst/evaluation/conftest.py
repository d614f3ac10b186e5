"""Random COCO data with all that is awkward: crowds, ties, empty images, absent classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle_tools

SIZE = 160
Case = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    """Makes a ground truth and detections from a seed."""
    return random_case


def random_case(
    seed: int,
    images: int = 12,
    categories: int = 4,
    noise: float = 0.1,
    misses: float = 0.2,
    false_alarms: float = 3.0,
    data_seed: int | None = None,
    ties: bool = True,
) -> Case:
    """Ellipses of all sizes and jittered copies of them as detections.

    Args:
        seed: Of the detections, and of the data unless `data_seed` is given.
        images: Number of images.
        categories: Number of categories; the last has no objects, ids have gaps.
        noise: Relative jitter of detections; copies of IoU above and below every threshold.
        misses: Share of objects without a detection.
        false_alarms: Mean number of further detections an image.
        data_seed: Seed of the objects, for several results on the same data.
        ties: Scores of one digit.
    """
    rng = np.random.default_rng(seed if data_seed is None else data_seed)
    noisy = np.random.default_rng(seed + 10_000)
    annotations, detections = [], []
    for image_id in range(1, images + 1):
        for _ in range(rng.poisson(4) if rng.random() > 0.2 else 0):
            box = _random_box(rng)
            category = 1 + 2 * int(rng.integers(categories - 1))
            crowd = int(rng.random() < 0.1)
            entry = _entry(image_id, category, box)
            area = float(rle_tools.area(entry["segmentation"]))
            annotations.append({**entry, "id": len(annotations), "area": area, "iscrowd": crowd})
            for _ in range(1 + int(noisy.random() < 0.2) + 3 * crowd):
                if noisy.random() > misses:
                    moved = box + noisy.normal(0, noise, 4) * np.array([*box[2:], *box[2:]])
                    detections.append(_detection(noisy, image_id, category, moved))
        for _ in range(noisy.poisson(false_alarms)):
            category = 1 + 2 * int(noisy.integers(categories))
            detections.append(_detection(noisy, image_id, category, _random_box(noisy)))
    if not ties:
        for entry, score in zip(detections, noisy.permutation(len(detections)), strict=True):
            entry["score"] = float(score + 1) / (len(detections) + 1)
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE, "width": SIZE}
            for i in range(images, 0, -1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1 + 2 * k, "name": f"class{k}"} for k in range(categories)],
    }
    return content, detections


def _random_box(rng: np.random.Generator) -> np.ndarray:
    side = np.exp(rng.uniform(np.log(6), np.log(150), 2))
    return np.array([*(rng.uniform(0, 1, 2) * (SIZE - side)), *side])


def _entry(image_id: int, category: int, box: np.ndarray) -> dict[str, Any]:
    x, y, w, h = box[0], box[1], max(box[2], 2), max(box[3], 2)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    ellipse = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
    mask = rle_tools.encode(np.asfortranarray(ellipse.astype(np.uint8)))
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [float(v) for v in (x, y, w, h)],
        "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
    }


def _detection(
    rng: np.random.Generator, image_id: int, category: int, box: np.ndarray
) -> dict[str, Any]:
    score = round(float(rng.beta(2, 2)), 1)  # one digit: many ties
    return {**_entry(image_id, category, box), "score": score}
