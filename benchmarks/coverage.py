"""How often the 95% interval of a paired difference holds the true one, over simulated datasets.

`python -m benchmarks.coverage` draws datasets of 80 images from a population whose truth is known
(the difference on 200,000 images), compares two models on each by the paired bootstrap, and prints
for each of the twelve numbers the share of datasets whose interval holds the truth.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from condinst.evaluation.accumulating import accumulate, group_events
from condinst.evaluation.differences import paired_bootstrap
from condinst.evaluation.scores import NUMBERS, summarise
from tests.condinst.evaluation.simulation import Population, simulate

SKILLS = (0.0, 0.15)
LARGE = 200_000


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--datasets", type=int, default=400)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--draws", type=int, default=300)
    given = parser.parse_args()
    began = time.perf_counter()
    truth = true_differences()
    held = covered(given.datasets, given.images, given.draws, truth)
    print(f"{given.datasets} datasets of {given.images} images, {given.draws} draws each, ", end="")
    print(f"{time.perf_counter() - began:.0f} s")
    print(f"{'number':8}  {'true difference':>15}  {'held by the 95% interval':>24}")
    for name, share in zip(NUMBERS, held.mean(axis=0), strict=True):
        print(f"{name:8}  {truth[name]:>15.2f}  {share:>24.1%}")
    luck = 1.96 * (0.95 * 0.05 / given.datasets) ** 0.5
    print(f"{'all':8}  {'':>15}  {held.mean():>24.1%}")
    print(f"A perfect interval would give 95% within {luck:.1%} by chance in one row.")


def true_differences(skills: tuple[float, float] = SKILLS) -> dict[str, float]:
    """The twelve differences of two models on very many images, in points of percent."""
    whole = simulate(Population(), LARGE, skills, seed=10_000)
    a, b = (summarise(accumulate(group_events(one), np.ones(LARGE))) for one in whole)
    return {name: (b[name] or 0.0) - (a[name] or 0.0) for name in NUMBERS}


def covered(datasets: int, images: int, draws: int, truth: dict[str, float]) -> np.ndarray:
    """(datasets, 12): whether the interval on each dataset holds the truth."""
    held = []
    for dataset in range(datasets):
        both = simulate(Population(), images, SKILLS, seed=dataset)
        found = paired_bootstrap(*both, draws=draws, seed=dataset)[: len(NUMBERS)]
        held.append([one.low <= truth[one.metric] <= one.high for one in found])
    return np.array(held)


if __name__ == "__main__":
    main()
