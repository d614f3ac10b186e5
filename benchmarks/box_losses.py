"""BoxInst's losses, forward and backward: the fused way against the readable one.

Images of 800 x 1344 at stride 4; the comparison of colours, which both ways share, is part of it.
Boxes are of COCO's mean share of an image's sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._apart import Way, measure
from benchmarks._rows import Row
from benchmarks.mask_heads import SIZE, SPEC, inputs
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.numba_backend import NumbaBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.supervision.box import BoxRules, BoxTruth, alike_pairs, box_spans

_SIDE = 0.25  # of a box, of the image's


class Size(NamedTuple):
    """Instances of two images, whose maps have a height and a width at stride 8."""

    repeats: int = 3
    instances: int = 128
    height: int = SIZE[0]
    width: int = SIZE[1]


SMOKE = Size(repeats=1, instances=4, height=12, width=20)


def scene(
    count: int, images: int, size: tuple[int, int], side: float
) -> tuple[Tensor, list[Tensor]]:
    """Seeded boxes (K, 4), and images of soft patches."""
    generator = torch.Generator().manual_seed(1)
    height, width = size[0] * 8, size[1] * 8
    extent = torch.tensor([float(width), float(height)])
    middle = torch.rand(count, 2, generator=generator) * extent
    half = extent * side * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((middle - half, middle + half), dim=1).clamp(min=0)
    grid = (-(-height // 100), -(-width // 100))
    patches = 64 + 96 * torch.rand(images, 3, *grid, generator=generator)
    drawn = F.interpolate(patches, size=(height, width), mode="bicubic").clamp(0, 255)
    return boxes, list(drawn.to(torch.uint8))


def truth(boxes: Tensor, images: list[Tensor]) -> BoxTruth:
    """What the losses compare with, by the paper's rules."""
    rules, (height, width) = BoxRules(), images[0].shape[1:]
    alike = alike_pairs(images, [480] * len(images), (height, width), SPEC.out_stride, rules)
    spans = box_spans(boxes, (height, width), SPEC.out_stride)
    return BoxTruth(spans, torch.arange(len(boxes), device=boxes.device), alike, rules.offsets)


def _way(backend: MaskBackend, given: Size, side: float) -> Way:
    def make() -> Callable[[], object]:
        def prepared(count: int, size: tuple[int, int]) -> Callable[[], object]:
            features, query = inputs(count, 2, size)
            features.requires_grad_()
            query = query._replace(params=query.params.requires_grad_())
            drawn = scene(count, 2, size, side)

            def call() -> None:
                projection, pairwise = backend.box_losses(SPEC, features, query, truth(*drawn))
                (projection + 1e-3 * pairwise).backward()

            return call

        prepared(2, (3, 3))()  # compiles, or loads what was compiled
        return prepared(given.instances, (given.height, given.width))

    return make


def _colours(given: Size, side: float) -> Way:
    def make() -> Callable[[], object]:
        boxes, images = scene(given.instances, 2, (given.height, given.width), side)
        truth(boxes, images)
        return lambda: truth(boxes, images)

    return make


def rows(size: Size) -> Iterator[Row]:
    """Boxes of the usual size, and of the whole image."""
    pixels = f"2 images of {size.height * 8} x {size.width * 8}"
    for name, side in (("usual boxes", _SIDE), ("boxes of the whole image", 2.0)):
        table = f"BoxInst's losses forward + backward, {size.instances} instances, {pixels}, {name}"
        ways = {
            "reference": (_way(ReferenceBackend(), size, side), "", ""),
            "numba": (_way(NumbaBackend(), size, side), "reference", ">= 10 times, peak <= 0.1"),
            "comparing colours, in both": (_colours(size, side), "", ""),
        }
        for what, (way, against, goal) in ways.items():
            yield Row(
                table, what, against=against, goal=goal, **measure(way, size.repeats)._asdict()
            )
