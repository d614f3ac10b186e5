"""BoxInst's losses of random mask heads, and their gradients, by any backend."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.layers.neighbours import neighbour_offsets
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth, box_spans
from condinst.modeling.supervision.dice import Dice


class BoxCase(NamedTuple):
    """What tells two cases apart."""

    count: int = 7
    size: tuple[int, int] = (6, 9)
    images: int = 2
    stride: int = 4
    pattern: int = 3
    dilation: int = 2
    alike: float = 0.6
    upsampling: str = "aligned"
    scale: float = 0.5  # of the networks: large ones give confident masks
    layout: HeadLayout = HeadLayout(8, 2, 8, 3)
    pairs: bool = True


CASES = {
    "paper": BoxCase(),
    "stride 1": BoxCase(4, (4, 5), 1, stride=1),
    "stride 2, wide pattern": BoxCase(5, (5, 7), stride=2, pattern=5, dilation=1),
    "stride 8, beyond the map": BoxCase(6, (5, 7), 3, stride=8, pattern=5, dilation=3),
    "all alike": BoxCase(alike=1.0),
    "none alike": BoxCase(alike=0.0),
    "no pairs": BoxCase(pairs=False),
    "plain upsampling": BoxCase(upsampling="plain"),
    "confident": BoxCase(scale=8.0),
    "none": BoxCase(count=0),
}


def make(case: BoxCase, dtype: torch.dtype) -> tuple[MaskHeadSpec, Tensor, MaskQuery, BoxTruth]:
    """Boxes of all sizes, some beyond the image and one so thin that no cell lies in it."""
    g = torch.Generator().manual_seed(1)
    (h, w), s = case.size, case.stride
    layout = case.layout
    spec = MaskHeadSpec(layout, "relative", (64.0, 128.0, 256.0), 8, s, s, case.upsampling, Dice())
    # drawn in double precision: in single, the same seed gives other numbers
    shape = (case.images, layout.features, h, w)
    features = torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
    params = torch.randn(case.count, layout.num_params, generator=g, dtype=torch.float64)
    params = (params * case.scale).to(dtype)
    extent = torch.tensor([w * 8.0, h * 8.0])
    query = MaskQuery(
        params,
        torch.arange(case.count) % case.images,
        torch.rand(case.count, 2, generator=g) * extent,
        torch.arange(case.count) % 3,
    )
    middle, half = (torch.rand(8, 2, generator=g) * extent * f for f in (1, 0.5))
    boxes = torch.cat((middle - half, middle + half), dim=1)
    boxes[1] = torch.tensor([5.0, 5.0, 5.2, 30.0])
    boxes[2] = torch.tensor([0.0, 0.0, *extent])
    offsets = neighbour_offsets(case.pattern, case.dilation) if case.pairs else []
    shape = (case.images, len(offsets), h * 8 // s, w * 8 // s)
    alike = torch.rand(shape, generator=g) < case.alike
    spans = box_spans(boxes, (h * 8, w * 8), s)
    targets = torch.arange(case.count) % len(boxes)
    return spec, features, query, BoxTruth(spans, targets, alike, offsets)


def losses_and_gradients(
    backend: MaskBackend, case: BoxCase, dtype: torch.dtype, weights: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both losses, and the gradients of their weighted sum by features and networks."""
    spec, features, query, truth = make(case, dtype)
    features.requires_grad_()
    query = query._replace(params=query.params.requires_grad_())
    projection, pairwise = backend.box_losses(spec, features, query, truth)
    (weights[0] * projection + weights[1] * pairwise).backward()
    assert features.grad is not None
    assert query.params.grad is not None
    return projection.detach(), pairwise.detach(), features.grad, query.params.grad
