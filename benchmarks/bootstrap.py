"""How long 1,000 bootstrap draws take at the size of COCO val2017.

Two simulated results on 5,000 images, 80 categories and 100 detections an image, every number over
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from condinst.cores import available_cores
from condinst.evaluation import accumulating
from condinst.evaluation.bootstrap import image_draws, sample
from condinst.evaluation.differences import differences
from condinst.evaluation.scores import summarise
from tests.condinst.evaluation.simulation import Population, simulate

VAL2017 = Population(categories=80, objects=36_781 / 5_000, detections=100)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--images", type=int, default=5000)
    given = parser.parse_args()
    a, b = simulate(VAL2017, given.images, (0.0, 0.05), seed=0)
    few = image_draws(given.images, 2, 0)
    accumulating.draw_numbers(accumulating.group_events(a), few)  # compiles
    began, cpu = time.perf_counter(), time.process_time()
    draws = image_draws(given.images, given.draws, 0)
    found = differences([sample(a, draws)], [sample(b, draws)])
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    once = time.perf_counter()
    events = accumulating.group_events(a)
    numbers = summarise(accumulating.accumulate(events, np.ones(given.images)))
    once = time.perf_counter() - once
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(a.image):,} detections, {len(a.object_image):,} objects, AP {numbers['AP']:.2f}")
    print(f"{given.draws:,} draws of both: {wall:.1f} s, {cpu:.1f} s of CPU, ", end="")
    print(f"{available_cores()} threads, peak memory {peak:.2f} GB")
    print(f"one measurement without drawing: {once:.2f} s")
    print(found[0].verdict.sentence)


if __name__ == "__main__":
    main()
