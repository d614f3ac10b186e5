"""How often a study of equal variants calls any of them different, and what correction costs.

`python -m benchmarks.families` draws studies: a baseline and eight variants on one simulated
dataset, compared as `compare` does it. Where all are equal, any difference told is an error; where
one variant is better, telling it is the power. Each is counted at the level of one comparison
(uncorrected) and at the simultaneous level. With several seeds each training has luck of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from benchmarks._rows import markdown
from condinst.evaluation.bootstrap import EVERY, image_draws, sample
from condinst.evaluation.differences import Pair, difference, pair_samples
from condinst.evaluation.multiple import joint_level, pool_seeds
from tests.condinst.evaluation.simulation import Population, simulate

LUCK = 0.05  # standard deviation of a training's skill
COUNTED = ("any of equals (family-wise error)", "the better one (power)")
HEADS = ("study", "told", "uncorrected", "corrected")


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--datasets", type=int, default=400)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--variants", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--better", type=float, default=0.15, help="skill of the better variant")
    given = parser.parse_args()
    began, rows = time.perf_counter(), []
    for seeds in given.seeds:
        told = np.array(
            [
                study(number, given.images, given.draws, given.variants, seeds, given.better)
                for number in range(given.datasets)
            ]
        )  # (datasets, 2, 2)
        label = f"{given.variants} variants, {seeds} seed{'s' if seeds > 1 else ''}"
        for what, shares in zip(COUNTED, told.mean(axis=0), strict=True):
            rows.append((label, what, *(f"{share:.1%}" for share in shares)))
    title = f"{given.datasets} studies of {given.images} images, {given.draws} draws each"
    markdown(title, HEADS, rows)
    luck = 1.96 * (0.05 * 0.95 / given.datasets) ** 0.5
    print(f"5% would come out within {luck:.1%} by chance; {time.perf_counter() - began:.0f} s")


def study(
    number: int, images: int, draws: int, variants: int, seeds: int, better: float
) -> np.ndarray:
    """(2, 2): what is told, uncorrected and corrected.

    First whether any of so many equal variants is, then whether a better one among them is.
    """
    skills = np.zeros((2 + variants, seeds))
    skills[-1] += better
    if seeds > 1:
        skills += LUCK * np.random.default_rng(number).normal(size=skills.shape)
    results = simulate(Population(), images, tuple(skills.ravel().tolist()), seed=number)
    multiplicities = image_draws(images, draws, number)
    samples = [sample(matches, multiplicities) for matches in results]
    base, *others = (samples[k : k + seeds] for k in range(0, len(samples), seeds))
    pairs = [_primary(pair_samples(base, one)) for one in others]
    alone = pairs[:-1], pairs[1:]  # all equal, and one better one among them
    equal, mixed = (pool_seeds(family) for family in alone)
    levels = [joint_level(family) for family in (equal, mixed)]
    return np.array(
        [
            [
                any(_told(pair, None) for pair in alone[0]),
                any(_told(pair, levels[0]) for pair in equal),
            ],
            [_told(alone[1][-1], None), _told(mixed[-1], levels[1])],
        ]
    )


def _primary(pairs: Sequence[Pair]) -> Pair:
    return next(pair for pair in pairs if (pair.category, pair.metric) == (EVERY, "AP"))


def _told(pair: Pair, level: float | None) -> bool:
    found = difference(pair, level=level)
    return found.low > 0 or found.high < 0


if __name__ == "__main__":
    main()
