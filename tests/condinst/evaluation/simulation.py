"""Simulated matches with a known truth, to check by how well the intervals keep their promise.

Objects of one image share a difficulty, so that images, not objects, are the independent units, as
in real data; two results on the same data share objects and difficulties, as two models do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condinst.evaluation.matching import ALL_THRESHOLDS, Matches
from condinst.evaluation.scores import IOU_THRESHOLDS


@dataclass(frozen=True)
class Population:
    """Where simulated datasets come from.

    Attributes:
        categories: Number of categories.
        objects: Mean number of objects an image.
        detections: Detections an image, at least; false alarms fill up.
        spread: Share of an object's difficulty that its whole image has in common.
    """

    categories: int = 3
    objects: float = 5.0
    detections: int = 12
    spread: float = 0.5


def simulate(
    population: Population, images: int, skills: tuple[float, ...], seed: int
) -> tuple[Matches, ...]:
    """Draws one dataset and what models of different skill find in it.

    Args:
        population: The distribution.
        images: Number of images.
        skills: One model each; 0 is a usual one, 1 would be far better.
        seed: Of everything.

    Returns:
        Matches of each model on the same objects.
    """
    rng = np.random.default_rng(seed)
    number = rng.poisson(population.objects, images)
    image = np.repeat(np.arange(images, dtype=np.int32), number)
    category = rng.integers(population.categories, size=len(image), dtype=np.int32)
    size = rng.integers(1, 4, size=len(image))
    counts = np.ones((len(image), 4), dtype=bool)
    counts[:, 1:] = size[:, None] == np.arange(1, 4)
    shared = np.sqrt(population.spread) * rng.normal(size=images)[image]
    difficulty = shared + np.sqrt(1 - population.spread) * rng.normal(size=len(image))
    return tuple(
        _detect(population, rng, images, skill, (image, category, size, difficulty), counts)
        for skill in skills
    )


def _detect(
    population: Population,
    rng: np.random.Generator,
    images: int,
    skill: float,
    objects: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    counts: np.ndarray,
) -> Matches:
    image, category, size, difficulty = objects
    luck = skill - difficulty + 0.5 * rng.normal(size=len(image))
    iou = 1 / (1 + np.exp(-1.2 - luck))
    found = (iou[:, None] >= IOU_THRESHOLDS) @ (1 << np.arange(len(IOU_THRESHOLDS)))
    score = iou + 0.15 * rng.normal(size=len(iou))

    alarms = np.maximum(population.detections - np.bincount(image, minlength=images), 0)
    alarm_image = np.repeat(np.arange(images, dtype=np.int32), alarms)
    alarm_category = rng.integers(population.categories, size=len(alarm_image), dtype=np.int32)
    alarm_size = rng.integers(1, 4, size=len(alarm_image))
    alarm_score = 0.35 + 0.2 * rng.normal(size=len(alarm_image))

    all_image = np.concatenate([image, alarm_image])
    all_category = np.concatenate([category, alarm_category])
    all_score = np.concatenate([score, alarm_score])
    all_size = np.concatenate([size, alarm_size])
    bits = np.concatenate([found, np.zeros(len(alarm_image), dtype=np.int64)])
    order = np.lexsort((-all_score, all_image, all_category))
    inside = np.ones((len(order), 4), dtype=bool)
    inside[:, 1:] = all_size[order, None] == np.arange(1, 4)
    true = np.where(inside, bits[order, None], 0).astype(np.uint16)
    pair = all_category[order].astype(np.int64) * images + all_image[order]
    return Matches(
        task="segm",
        image_ids=np.arange(1, images + 1),
        category_names=tuple(f"class{k}" for k in range(population.categories)),
        max_dets=100,
        image=all_image[order],
        category=all_category[order],
        score=all_score[order],
        rank=(np.arange(len(order)) - np.searchsorted(pair, pair)).astype(np.int32),
        true=true,
        false=np.where(inside, ALL_THRESHOLDS & ~true, 0).astype(np.uint16),
        object_image=image,
        object_category=category,
        object_counts=counts,
    )
