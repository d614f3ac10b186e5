"""FCOS targets: columns and rows apart against the readable rules, images of 800 x 1344."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks._apart import Way, measure
from benchmarks._rows import Row
from condinst.layers.locations import cell_locations
from condinst.modeling.fcos.targets import Matching, assign
from tests.condinst.modeling.fcos.readable_targets import assign_readably


class Size(NamedTuple):
    """Boxes of each of two images."""

    repeats: int = 9
    boxes: int = 100


SMOKE = Size(repeats=1, boxes=3)


def _way(function: Callable[..., object], boxes: int, sampled: bool) -> Way:
    def make() -> Callable[[], object]:
        matching = Matching((8, 16, 32, 64, 128), (64, 128, 256, 512), sampled, 1.5)
        grids = [cell_locations(-(-800 // s), -(-1344 // s), s) for s in matching.strides]
        torch.manual_seed(0)
        images = []
        for _ in range(2):
            corner = torch.rand(boxes, 2) * torch.tensor([1200.0, 700.0])
            drawn = torch.cat((corner, corner + 8 + torch.rand(boxes, 2) ** 2 * 400), dim=1)
            centers = (drawn[:, :2] + drawn[:, 2:]) / 2
            images.append((grids, drawn, torch.arange(boxes) % 80, centers, 80, matching))
        return lambda: [function(*x) for x in images]

    return make


def rows(size: Size) -> Iterator[Row]:
    """With centre sampling and without."""
    for sampled in (True, False):
        name = "on" if sampled else "off"
        table = f"FCOS targets, 2 images, {size.boxes} boxes each, centre sampling {name}"
        plain, fast = (
            measure(_way(function, size.boxes, sampled), size.repeats)._asdict()
            for function in (assign_readably, assign)
        )
        yield Row(table, "readable", **plain)
        yield Row(table, "apart", against="readable", goal=">= 5 times", **fast)
