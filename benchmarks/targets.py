"""FCOS targets of 2 images with 100 boxes each: columns and rows apart against the readable rules.

`python -m benchmarks.targets` prints the table, 2 threads, images of 800 x 1344.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks._measure import Row, measure, show
from condinst.layers.locations import cell_locations
from condinst.modeling.fcos.targets import Matching, assign
from tests.condinst.modeling.fcos.readable_targets import assign_readably


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats

    def way(function: Callable[..., object], sampled: bool) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            matching = Matching((8, 16, 32, 64, 128), (64, 128, 256, 512), sampled, 1.5)
            grids = [cell_locations(-(-800 // s), -(-1344 // s), s) for s in matching.strides]
            torch.manual_seed(0)
            images = []
            for _ in range(2):
                corner = torch.rand(100, 2) * torch.tensor([1200.0, 700.0])
                boxes = torch.cat((corner, corner + 8 + torch.rand(100, 2) ** 2 * 400), dim=1)
                centers = (boxes[:, :2] + boxes[:, 2:]) / 2
                images.append((grids, boxes, torch.arange(100) % 80, centers, 80, matching))
            return lambda: [function(*x) for x in images]

        return make

    for sampled in (True, False):
        plain, fast = (measure(way(f, sampled), repeats) for f in (assign_readably, assign))
        show(
            f"FCOS targets, centre sampling {'on' if sampled else 'off'}",
            [Row("readable", plain), Row("apart", fast, plain, ">= 5 times")],
        )


if __name__ == "__main__":
    main()
