"""BoxInst's losses on a GPU, by the kernels of `triton_box_kernels`.

The kernels give the largest logit of every row and column, and the sum of every instance's pairs;
dice of the former is a matter of a few lines, left to torch. Kept for the backward pass: the logits
at the features' stride, and where the largest ones lie.

Letters: see `condinst.modeling.mask_head.backend`; ``H, W`` size of the enlarged map, ``J``
neighbours of a pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from condinst.modeling.mask_head import triton_networks as networks
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth, shadow_losses

_LINES = 64  # a program


class _Pairs(NamedTuple):
    """What the kernels read of a `BoxTruth`.

    Attributes:
        spans: (K, 4).
        alike: (B, J, H, W) bytes.
        offsets: (J, 2) int32.
        count: J.
        reach: of the farthest neighbour.
    """

    spans: Tensor
    alike: Tensor
    offsets: Tensor
    count: int
    reach: int


def box_losses(
    spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
) -> tuple[Tensor, Tensor]:
    """See `MaskBackend`; K is at least 1."""
    h, w = features.shape[-2:]
    factor = spec.feature_stride // spec.out_stride
    expected = (factor * h, factor * w)
    assert truth.alike.shape[-2:] == expected, (truth.alike.shape, expected)
    flat = [abs(n) for pair in truth.offsets for n in pair]
    pairs = _Pairs(
        truth.spans[truth.targets].contiguous(),
        truth.alike.contiguous().view(torch.uint8),
        torch.tensor(truth.offsets, dtype=torch.int32, device=features.device),
        len(truth.offsets),
        max(flat, default=0),
    )
    down, across, sums = _BoxSums.apply(features, query.params, query, pairs, spec)  # type: ignore[misc]
    projection = shadow_losses(down.sigmoid(), across.sigmoid(), pairs.spans)
    return projection.sum(), sums.sum()


class _BoxSums(torch.autograd.Function):
    """Features and networks -> largest logits (K, W) and (K, H), and sums of pairs (K,)."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        params: Tensor,
        query: MaskQuery,
        pairs: _Pairs,
        spec: MaskHeadSpec,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from condinst.modeling.mask_head import triton_box_kernels as kernels

        h, w = features.shape[-2:]
        factor = spec.feature_stride // spec.out_stride
        enlarged = (factor, networks.shift(spec, factor))
        logits = networks.mask_logits(spec, features, query)
        count = len(logits)
        down, down_at = _largest(logits, (w, 1), (h, w), enlarged)
        across, across_at = _largest(logits, (h, w), (w, 1), enlarged)
        blocks = networks.blocks_of(h * w * factor**2, networks.BLOCK)
        sums = logits.new_zeros((count, blocks))
        if pairs.count:
            kernels.pairs_kernel[count, blocks](
                logits, pairs.spans, query.images.contiguous(), pairs.alike, pairs.offsets, sums,
                h, w, pairs.count, *enlarged, networks.BLOCK,
            )  # fmt: skip
        ctx.save_for_backward(features, params, logits, down_at, across_at)
        ctx.query, ctx.pairs, ctx.spec = query._replace(params=params.detach()), pairs, spec
        return down, across, sums.sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from condinst.modeling.mask_head import triton_box_kernels as kernels

        features, params, logits, down_at, across_at = ctx.saved_tensors
        on_down, on_across, on_pairs = (x.float().contiguous() for x in grads)
        (h, w), spec, pairs = features.shape[-2:], ctx.spec, ctx.pairs
        factor = spec.feature_stride // spec.out_stride

        def corners(part: slice, out: Tensor) -> None:
            blocks = networks.blocks_of((h + 1) * (w + 1), networks.BLOCK)
            kernels.boxes_backward_kernel[len(out), blocks](
                logits[part], pairs.spans[part], ctx.query.images[part].contiguous(), pairs.alike,
                pairs.offsets, down_at[part], across_at[part], on_down[part], on_across[part],
                on_pairs[part], out, h, w, pairs.count, pairs.reach,
                factor, networks.shift(spec, factor), networks.BLOCK,
            )  # fmt: skip

        made = networks.network_gradients(features, params, ctx.query, spec, corners)
        return (*made, None, None, None)


def _largest(
    logits: Tensor,
    lines: tuple[int, int],
    steps: tuple[int, int],
    enlarged: tuple[int, float],
) -> tuple[Tensor, Tensor]:
    """The largest logits of all lines (K, F lines), and where they lie.

    Args:
        logits: (K, h, w).
        lines: how many, and how far apart.
        steps: likewise, of the cells along one.
        enlarged: F, and the shift of the enlarged cells.
    """
    from condinst.modeling.mask_head import triton_box_kernels as kernels

    count, length = len(logits), enlarged[0] * lines[0]
    best = logits.new_empty((count, length))
    at = torch.empty((count, length), dtype=torch.int32, device=logits.device)
    kernels.shadows_kernel[count, networks.blocks_of(length, _LINES)](
        logits, best, at, logits[0].numel(), *lines, *steps, *enlarged, _LINES
    )
    return best, at
