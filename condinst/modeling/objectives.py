"""How masks are learned: from masks, from boxes, or from whichever an object has.

Each is an object with the same interface. A mean over instances is taken over all workers and
micro-batches of a step, so that one process and several give the same gradients.

Letters: ``K`` instances with a loss, ``M`` ground-truth instances of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from condinst.layers.distributed import at_least_one, begins_step, normalizer
from condinst.modeling.ground_truth import GroundTruth, MaskSource
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.sampling import Positives
from condinst.modeling.supervision.box import (
    BoxRules,
    BoxTruth,
    alike_pairs,
    box_spans,
    count_pairs,
)

Losses = dict[str, Tensor]


class Scene(NamedTuple):
    """A batch as the losses see it.

    Attributes:
        truths: one per image.
        images: (3, h, w) each, as given to the model.
        heights: of the original images.
        size: height and width of the padded batch.
        stride: of the losses.
    """

    truths: Sequence[GroundTruth]
    images: Sequence[Tensor]
    heights: Sequence[int]
    size: tuple[int, int]
    stride: int


class Heads(NamedTuple):
    """The mask heads to supervise, and how they are computed.

    Attributes:
        spec: what is computed.
        backend: how it is computed.
        maps: (B, C, h, w) mask features.
        chosen: K positives.
    """

    spec: MaskHeadSpec
    backend: MaskBackend
    maps: Tensor
    chosen: Positives

    def take(self, index: Tensor) -> Heads:
        """Only those at ``index``."""
        return self._replace(chosen=self.chosen.take(index))

    @property
    def query(self) -> MaskQuery:
        """In the form that backends expect."""
        chosen = self.chosen
        return MaskQuery(chosen.params, chosen.images, chosen.locations, chosen.levels)


class Supervision(Protocol):
    """What masks are compared with."""

    @property
    def source(self) -> MaskSource:
        """The source of the masks in `GroundTruth`."""
        ...

    @property
    def warm_up(self) -> WarmUp | None:
        """The state that it keeps from step to step."""
        ...

    def counts(self, chosen: Positives, scene: Scene) -> dict[str, Tensor]:
        """The losses' normalisers for these images alone; names as in the losses."""
        ...

    def losses(self, heads: Heads, scene: Scene) -> Losses:
        """The loss terms by name; without positives they are 0 and connected to the graph."""
        ...


class WarmUp(nn.Module):
    """Counts training passes; its buffer is AdelaiDet's ``mask_head._iter``."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.passes = passes
        self.register_buffer("_iter", torch.zeros(1))

    def factor(self) -> Tensor:
        """Count this pass and return min(passes so far / passes in all, 1) as a scalar."""
        if begins_step():
            self._iter.add_(1)
        return (self._iter[0] / max(self.passes, 1)).clamp(max=1.0)


@dataclass(frozen=True)
class FromMasks:
    """``loss_mask``: the mean of the spec's dice."""

    source: MaskSource = MaskSource.MASKS
    warm_up: None = None

    def counts(self, chosen: Positives, scene: Scene) -> dict[str, Tensor]:
        """``masks``: K."""
        return {"masks": _float(len(chosen.images), chosen.images)}

    def losses(self, heads: Heads, scene: Scene) -> Losses:
        """Compare with masks."""
        count = self.counts(heads.chosen, scene)["masks"]
        mean = _mask_loss(heads, scene)
        return {"loss_mask": mean * (count / at_least_one(normalizer("masks", count)))}


@dataclass(frozen=True)
class FromBoxes:
    """``loss_prj`` and ``loss_pairwise``, where pairs count; masks are never read."""

    rules: BoxRules
    warm_up: WarmUp
    source: MaskSource = MaskSource.BOXES

    def counts(self, chosen: Positives, scene: Scene) -> dict[str, Tensor]:
        """``masks``: K; ``pairs``: pairs of pixels that count, over all K."""
        truth = box_truth(chosen, scene, self.rules)
        return {"masks": _float(len(chosen.images), chosen.images), "pairs": _pairs(chosen, truth)}

    def losses(self, heads: Heads, scene: Scene) -> Losses:
        """Compare with boxes and colours."""
        factor, chosen = self.warm_up.factor(), heads.chosen
        truth = box_truth(chosen, scene, self.rules)
        projection, pairwise = _box_losses(heads, truth)
        count = _float(len(chosen.images), chosen.images)
        pairs = at_least_one(normalizer("pairs", _pairs(chosen, truth)))
        return _told(
            self.rules,
            {
                "loss_prj": projection / at_least_one(normalizer("masks", count)),
                "loss_pairwise": pairwise / pairs * factor,
            },
        )


@dataclass(frozen=True)
class FromEither:
    """Dice for objects with a mask, projection and pairwise loss for objects with only a box.

    All three are shares of one mean over all K instances: with only masks, ``loss_mask`` equals
    that of `FromMasks`; with only boxes, the other two equal those of `FromBoxes`.

    Attributes:
        rules: of the box losses.
        warm_up: of the box losses.
        mask_weight: of ``loss_mask``.
        box_weight: of the other two.
        source: see `Supervision`.
    """

    rules: BoxRules
    warm_up: WarmUp
    mask_weight: float = 1.0
    box_weight: float = 1.0
    source: MaskSource = MaskSource.EITHER

    def counts(self, chosen: Positives, scene: Scene) -> dict[str, Tensor]:
        """``masks``: K; ``boxed``: those of them with only a box; ``pairs``: of those."""
        boxed = chosen.take(_boxed(chosen, scene).nonzero(as_tuple=True)[0])
        return {
            "masks": _float(len(chosen.images), chosen.images),
            "boxed": _float(len(boxed.images), chosen.images),
            "pairs": _pairs(boxed, box_truth(boxed, scene, self.rules)),
        }

    def losses(self, heads: Heads, scene: Scene) -> Losses:
        """Compare each instance with its mask or its box."""
        factor = self.warm_up.factor()
        boxed = _boxed(heads.chosen, scene)
        masks = heads.take((~boxed).nonzero(as_tuple=True)[0])
        boxes = heads.take(boxed.nonzero(as_tuple=True)[0])
        truth = box_truth(boxes.chosen, scene, self.rules)
        projection, pairwise = _box_losses(boxes, truth)
        total = at_least_one(normalizer("masks", _float(len(boxed), boxed)))
        share = normalizer("boxed", _float(len(boxes.chosen.images), boxed)) / total
        pairs = at_least_one(normalizer("pairs", _pairs(boxes.chosen, truth)))
        count = len(masks.chosen.images)
        return _told(
            self.rules,
            {
                "loss_mask": _mask_loss(masks, scene) * (count / total) * self.mask_weight,
                "loss_prj": projection / total * self.box_weight,
                "loss_pairwise": pairwise / pairs * share * factor * self.box_weight,
            },
        )


def build_supervision(cfg: CfgNode) -> Supervision:
    """The supervision that MODEL.BOXINST asks for.

    Raises:
        UserError: some of its keys are out of range.
    """
    node = cfg.MODEL.BOXINST
    if not node.ENABLED:
        return FromMasks()
    rules = BoxRules.from_config(cfg)
    warm_up = WarmUp(rules.warmup)
    if not node.USE_MASKS:
        return FromBoxes(rules, warm_up)
    return FromEither(rules, warm_up, node.MASK_WEIGHT, node.BOX_WEIGHT)


def box_truth(chosen: Positives, scene: Scene, rules: BoxRules) -> BoxTruth:
    """What the box losses of some positives compare with."""
    spans = [box_spans(truth.boxes, scene.size, scene.stride) for truth in scene.truths]
    alike = alike_pairs(scene.images, scene.heights, scene.size, scene.stride, rules)
    return BoxTruth(torch.cat(spans), chosen.instances, alike, rules.offsets)


def scene_of(
    batched_inputs: Sequence[dict[str, Any]],
    truths: Sequence[GroundTruth],
    size: tuple[int, int],
    stride: int,
) -> Scene:
    """A batch of model inputs."""
    device = truths[0].boxes.device
    images = [x["image"].to(device) for x in batched_inputs]
    heights = [int(x.get("height", x["image"].shape[-2])) for x in batched_inputs]
    return Scene(truths, images, heights, size, stride)


def _told(rules: BoxRules, losses: Losses) -> Losses:
    """The losses, without the pairwise one if pairs do not count."""
    return {k: v for k, v in losses.items() if rules.pairwise or k != "loss_pairwise"}


def _boxed(chosen: Positives, scene: Scene) -> Tensor:
    """(K,) whether an instance has only a box."""
    drawn = torch.cat([t.masks.drawn for t in scene.truths if t.masks is not None])
    return ~drawn[chosen.instances]


def _mask_loss(heads: Heads, scene: Scene) -> Tensor:
    masks = [t.masks.masks[scene.stride] for t in scene.truths if t.masks is not None]
    targets = heads.chosen.instances
    return heads.backend.loss(heads.spec, heads.maps, heads.query, torch.cat(masks), targets)


def _box_losses(heads: Heads, truth: BoxTruth) -> tuple[Tensor, Tensor]:
    return heads.backend.box_losses(heads.spec, heads.maps, heads.query, truth)


def _pairs(chosen: Positives, truth: BoxTruth) -> Tensor:
    counted = count_pairs(truth.spans[truth.targets], chosen.images, truth.alike)
    return counted.sum().float()


def _float(value: int, like: Tensor) -> Tensor:
    return torch.tensor(float(value), device=like.device)
