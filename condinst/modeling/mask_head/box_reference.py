"""BoxInst's losses, readable: plain tensor operations, the specification of every faster way.

Letters: see `condinst.modeling.mask_head.head`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condinst.layers.upsampling import get_upsampling
from condinst.modeling.mask_head.head import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.reference import group_size, mask_logits
from condinst.modeling.supervision.box import (
    BoxTruth,
    box_masks,
    pairwise_losses,
    projection_losses,
)


def box_losses(
    spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
) -> tuple[Tensor, Tensor]:
    """See `condinst.modeling.mask_head.head.MaskBackend.box_losses`."""
    count = len(query.params)
    if count == 0:
        zero = features[:0].sum() + query.params.sum()  # connected to the graph
        return zero, zero

    def part(params: Tensor, maps: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        chosen = MaskQuery(params[index], *(x[index] for x in query[1:]))
        logits = mask_logits(spec, maps, chosen)
        upsample = get_upsampling(spec.upsampling)
        logits = upsample(logits[:, None], spec.feature_stride // spec.out_stride)[:, 0]
        masks = box_masks(truth.spans[truth.targets[index]], (logits.shape[1], logits.shape[2]))
        alike = truth.alike[chosen.images]
        return (
            projection_losses(logits, masks).sum(),
            pairwise_losses(logits, masks, alike, truth.offsets).sum(),
        )

    indices = torch.arange(count, device=features.device)
    size = group_size(features, spec.feature_stride // spec.out_stride)
    if count <= size:
        return part(query.params, features, indices)
    # Each group's maps are computed again in the backward pass instead of being kept.
    losses = [
        checkpoint(part, query.params, features, index, use_reentrant=False)
        for index in indices.split(size)
    ]
    return torch.stack([x for x, _ in losses]).sum(), torch.stack([x for _, x in losses]).sum()
