"""BoxInst's losses, forward and backward: the fused way against the readable one.

`python -m benchmarks.box_losses` prints the table: 2 images of 800 x 1344, 64 instances each, at
stride 4, 2 threads; the comparison of colours, which both ways share, is part of it. Boxes are of
COCO's mean share of an image's sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._measure import Row, measure, show
from benchmarks.mask_heads import SIZE, SPEC, inputs
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.numba_backend import NumbaBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.supervision.box import BoxRules, BoxTruth, alike_pairs, box_spans

_SIDE = 0.25  # of a box, of the image's


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


def _way(backend: MaskBackend, side: float) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        def prepared(count: int, images: int, size: tuple[int, int]) -> Callable[[], object]:
            features, query = inputs(count, images, size)
            features.requires_grad_()
            query = query._replace(params=query.params.requires_grad_())
            given = scene(count, images, size, side)

            def call() -> None:
                projection, pairwise = backend.box_losses(SPEC, features, query, truth(*given))
                (projection + 1e-3 * pairwise).backward()

            return call

        prepared(2, 2, (3, 3))()  # compiles, or loads what was compiled
        return prepared(128, 2, SIZE)

    return make


def _colours() -> Callable[[], object]:
    boxes, images = scene(128, 2, SIZE, _SIDE)
    truth(boxes, images)
    return lambda: truth(boxes, images)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    for title, side in (("usual boxes", _SIDE), ("boxes of the whole image", 2.0)):
        reference = measure(_way(ReferenceBackend(), side), repeats)
        numba = measure(_way(NumbaBackend(), side), repeats)
        show(
            f"BoxInst's losses forward and backward, 2 x 64 instances, 800 x 1344, {title}",
            [
                Row("reference", reference),
                Row("numba", numba, reference, ">= 10 times, peak <= 0.10"),
                Row("comparing colours, in both", measure(_colours, repeats)),
            ],
        )


if __name__ == "__main__":
    main()
