"""The normalisers of CondInst's losses, from the targets alone.

A step with several micro-batches needs these before the first one, so that it gives the gradients
of all images at once.

Letters: ``P`` positive locations.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from detectron2.modeling import Backbone
from detectron2.structures import Instances
from torch import Tensor

from condinst.layers.locations import cell_locations
from condinst.modeling.fcos.losses import centerness
from condinst.modeling.fcos.targets import Matching
from condinst.modeling.ground_truth import GroundTruth
from condinst.modeling.instances import BatchTargets, assign_batch
from condinst.modeling.mask_head.spec import MaskHeadSpec
from condinst.modeling.objectives import Supervision, scene_of
from condinst.modeling.sampling import Positives, Sampling, sample
from condinst.modeling.semantic_loss import SemanticHead, semantic_labels


class Rules(Protocol):
    """The parts of a detector that determine its normalizers."""

    backbone: Backbone
    device: torch.device
    mask_spec: MaskHeadSpec | None
    matching: Matching
    num_classes: int
    sampling: Sampling
    semantic_head: SemanticHead | None
    supervision: Supervision | None

    def ground_truths(self, instances: list[Instances], size: tuple[int, int]) -> list[GroundTruth]:
        """What the losses compare with, one per image of a batch padded to ``size``."""
        ...


@torch.no_grad()
def count_normalizers(model: Rules, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The normalizers of these images, not averaged over workers; names as in the losses.

    Args:
        model: has the rules for matching and sampling.
        batched_inputs: as in training.
    """
    height, width = _padded_size(batched_inputs, model.backbone.size_divisibility)
    truths = model.ground_truths([x["instances"] for x in batched_inputs], (height, width))
    locations = [
        cell_locations(-(-height // s), -(-width // s), s, model.device)
        for s in model.matching.strides
    ]
    targets = assign_batch(locations, truths, model.num_classes, model.matching)
    positive = (targets.labels < model.num_classes).nonzero(as_tuple=True)[0]  # (P,)
    counts = {
        "positives": targets.distances.new_tensor(float(len(positive))),
        "centerness": centerness(targets.distances[positive]).sum(),
        "locations": targets.distances.new_tensor(float(len(targets.labels))),
    }
    if model.mask_spec is not None:
        assert model.supervision is not None
        scene = scene_of(batched_inputs, truths, (height, width), model.mask_spec.out_stride)
        candidates = _mask_candidates(targets, positive, model.sampling)
        counts |= model.supervision.counts(candidates, scene)
    if model.semantic_head is not None:
        assert model.mask_spec is not None
        counts["pixels"] = _count_pixels(truths, model.mask_spec.feature_stride, model.num_classes)
    return counts


def _padded_size(batched_inputs: list[dict[str, Any]], divisor: int) -> tuple[int, int]:
    sizes = [x["image"].shape[-2:] for x in batched_inputs]
    divisor = max(divisor, 1)
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _mask_candidates(targets: BatchTargets, positive: Tensor, sampling: Sampling) -> Positives:
    """As many positives per instance as get a mask loss; which ones does not matter here."""
    nothing = targets.distances.new_zeros(len(positive), 0)
    which = torch.zeros_like(positive)
    candidates = Positives(
        params=nothing,
        images=targets.images[positive],
        instances=targets.boxes[positive],
        levels=which,
        locations=nothing,
        scores=which,
    )
    return sample(candidates, sampling)


def _count_pixels(truths: list[GroundTruth], stride: int, num_classes: int) -> Tensor:
    labels = [semantic_labels(truth, stride, num_classes) for truth in truths]
    return torch.stack([(one < num_classes).sum() for one in labels]).sum().float()
