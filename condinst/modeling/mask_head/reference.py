"""The readable mask head: plain tensor operations, the specification of every faster one.

Letters: ``B`` images, ``C`` mask features, ``h, w`` their size, ``K`` instances.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condinst.layers.locations import cell_locations, unit_coordinates
from condinst.layers.upsampling import aligned_bilinear, get_upsampling
from condinst.modeling.mask_head.backend import MaskBackend, no_loss
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import (
    BoxTruth,
    box_masks,
    pairwise_losses,
    projection_losses,
)

# Elements of one intermediate map above which instances are taken in groups.
_GROUP_ELEMENTS = 1 << 25


def full_precision(x: Tensor) -> Tensor:
    """At least single precision: half would round coordinates to some pixels."""
    return x if x.dtype == torch.float64 else x.float()


class ReferenceBackend(MaskBackend):
    """The specification; computes everything."""

    name = "reference"

    def unsupported(self, spec: MaskHeadSpec, device: torch.device) -> None:
        """Nothing."""

    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """Mean dice loss over the instances at the spec's stride."""
        if len(query.params) == 0:
            return no_loss(features, query)

        def dice(logits: Tensor, index: Tensor) -> Tensor:
            return spec.dice(logits.sigmoid(), masks[targets[index]])

        return _by_groups(spec, features, query, dice).mean()

    def box_losses(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
    ) -> tuple[Tensor, Tensor]:
        """Both losses of every instance on its whole map, all neighbours at once."""
        if len(query.params) == 0:
            return no_loss(features, query), no_loss(features, query)

        def both(logits: Tensor, index: Tensor) -> Tensor:
            masks = box_masks(truth.spans[truth.targets[index]], (logits.shape[1], logits.shape[2]))
            alike = truth.alike[query.images[index]]
            pairwise = pairwise_losses(logits, masks, alike, truth.offsets)
            return torch.stack((projection_losses(logits, masks), pairwise), dim=1)

        projection, pairwise = _by_groups(spec, features, query, both).sum(0)
        return projection, pairwise

    def masks(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Tensor:
        """Probabilities at the inference stride, enlarged to the original size, over one half."""
        out = torch.zeros(
            (len(query.params), *output_size), dtype=torch.bool, device=features.device
        )
        upsample = get_upsampling(spec.upsampling)
        indices = torch.arange(len(out), device=features.device)
        for index in indices.split(_group_size(features, spec.feature_stride)):
            logits = mask_logits(spec, features, MaskQuery(*(x[index] for x in query)))[:, None]
            probs = upsample(logits, spec.feature_stride // spec.inference_stride).sigmoid()
            probs = aligned_bilinear(probs, spec.inference_stride)
            probs = probs[:, :, : image_size[0], : image_size[1]]
            probs = F.interpolate(probs, size=output_size, mode="bilinear", align_corners=False)
            out[index] = probs[:, 0] > 0.5
        return out


def _by_groups(
    spec: MaskHeadSpec,
    features: Tensor,
    query: MaskQuery,
    losses: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """What ``losses(logits (k, H, W), index (k,))`` gives for K > 0 instances, joined."""
    factor = spec.feature_stride // spec.out_stride
    upsample = get_upsampling(spec.upsampling)

    def part(params: Tensor, maps: Tensor, index: Tensor) -> Tensor:
        chosen = MaskQuery(params[index], *(x[index] for x in query[1:]))
        return losses(upsample(mask_logits(spec, maps, chosen)[:, None], factor)[:, 0], index)

    indices = torch.arange(len(query.params), device=features.device)
    size = _group_size(features, factor)
    if len(indices) <= size:
        return part(query.params, features, indices)
    # Each group's maps are computed again in the backward pass instead of being kept.
    return torch.cat(
        [
            checkpoint(part, query.params, features, index, use_reentrant=False)
            for index in indices.split(size)
        ]
    )


def mask_logits(spec: MaskHeadSpec, features: Tensor, query: MaskQuery) -> Tensor:
    """Run each instance's network over the mask features of its image, in `full_precision`.

    Args:
        spec: what is computed.
        features: (B, C, h, w).
        query: K instances.

    Returns:
        (K, h, w) logits at the features' stride.
    """
    weights, biases = spec.layout.split(full_precision(query.params))
    with torch.autocast(features.device.type, enabled=False):
        x = _inputs(spec, full_precision(features), query)  # (K, coords + C, h w)
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = torch.baddbmm(bias[:, :, None], weight, x)
            if layer < spec.layout.depth - 1:
                x = x.relu()
    return x[:, 0].unflatten(1, features.shape[-2:])


def _inputs(spec: MaskHeadSpec, features: Tensor, query: MaskQuery) -> Tensor:
    """Coordinates, then mask features, of every instance: (K, coords + C, h w)."""
    h, w = features.shape[-2:]
    # Unlike indexing, index_select's gradient adds up in a fixed order on CPU: the same run twice
    # is the same curve.
    own = features.flatten(2).index_select(0, query.images)
    if spec.coordinates == "none":
        return own
    if spec.coordinates == "absolute":
        coords = unit_coordinates(h, w, features.device).expand(len(own), -1, -1)
    else:
        pixels = cell_locations(h, w, spec.feature_stride, features.device)
        sizes = query.locations.new_tensor(spec.sizes_of_interest)[query.levels]
        coords = (query.locations[:, :, None] - pixels.T) / sizes[:, None, None]
    return torch.cat((coords.to(own.dtype), own), dim=1)


def _group_size(features: Tensor, factor: int) -> int:
    """Instances whose maps, enlarged by ``factor``, make up one group."""
    return max(_GROUP_ELEMENTS // (features.shape[-2:].numel() * factor**2), 1)
