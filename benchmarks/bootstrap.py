"""How long 1,000 bootstrap draws take at the size of COCO val2017.

Two simulated results of 80 categories and 100 detections an image, every number over each draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks._apart import peak_since, restart_peak
from benchmarks._rows import Row
from condinst.evaluation import accumulating
from condinst.evaluation.bootstrap import image_draws, sample
from condinst.evaluation.differences import differences
from condinst.evaluation.scores import summarise
from condinst.timing import in_turns
from tests.condinst.evaluation.simulation import Population, simulate

VAL2017 = Population(categories=80, objects=36_781 / 5_000, detections=100)


class Size(NamedTuple):
    """How many draws of how many images."""

    draws: int = 1000
    images: int = 5000


SMOKE = Size(draws=5, images=20)


def rows(size: Size) -> Iterator[Row]:
    """All draws, and one measurement without drawing."""
    a, b = simulate(VAL2017, size.images, (0.0, 0.05), seed=0)

    def drawn(count: int = size.draws) -> None:
        draws = image_draws(size.images, count, 0)
        differences([sample(a, draws)], [sample(b, draws)])

    drawn(2)  # compiles
    table = f"Paired bootstrap, {size.images:,} images, two results"
    note = f"{len(a.image):,} detections, {len(a.object_image):,} objects"
    before = restart_peak()
    seconds, peak = in_turns({"": drawn}, 1)[""], peak_since(before)
    what, goal = f"{size.draws:,} draws of both", "<= 60 s, <= 4 GB"
    yield Row(table, what, seconds, goal=goal, peak=peak, note=note)
    once = partial(_measure_once, a, np.ones(size.images))
    yield Row(table, "one measurement without drawing", in_turns({"": once}, 1)[""])


def _measure_once(result: accumulating.Matches, weights: np.ndarray) -> None:
    summarise(accumulating.accumulate(accumulating.group_events(result), weights))
