"""CondInst, the meta architecture: wiring only.

Letters: ``R`` locations of all levels and images, ``P`` positive ones.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from condinst.layers.conv import init_normal
from condinst.layers.distributed import begins_step, normalizer
from condinst.layers.locations import cell_locations
from condinst.modeling.backbone.timm_backbone import build_named_backbone
from condinst.modeling.config_checks import check_config
from condinst.modeling.fcos import losses as fcos_losses
from condinst.modeling.fcos.decode import DecodeSettings, decode
from condinst.modeling.fcos.head import FCOSHead, HeadOutput, flatten
from condinst.modeling.fcos.losses import LossSettings
from condinst.modeling.fcos.targets import Matching
from condinst.modeling.ground_truth import GroundTruth, MaskSource, read_ground_truth
from condinst.modeling.instances import (
    BatchTargets,
    assign_batch,
    collect_positives,
    detection_query,
)
from condinst.modeling.mask_branch import MaskBranch, build_mask_branch
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.choice import get_backend
from condinst.modeling.mask_head.spec import MaskHeadSpec
from condinst.modeling.normalizers import count_normalizers
from condinst.modeling.objectives import (
    Heads,
    Supervision,
    build_supervision,
    scene_of,
)
from condinst.modeling.postprocess import make_instances, to_original
from condinst.modeling.sampling import Sampling, sample
from condinst.modeling.semantic_loss import SemanticHead


class MaskParts(NamedTuple):
    """The parts that predict masks; all None in a box-only detector."""

    controller: nn.Conv2d
    branch: MaskBranch
    semantic_head: SemanticHead | None
    spec: MaskHeadSpec
    backend: MaskBackend
    sampling: Sampling
    supervision: Supervision


@META_ARCH_REGISTRY.register()
class CondInst(nn.Module):
    """Instance segmentation by conditional convolutions (https://arxiv.org/abs/2003.05664)."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        fcos_head: FCOSHead,
        mask_parts: MaskParts | None,
        in_features: list[str],
        matching: Matching,
        loss_settings: LossSettings,
        decode_settings: DecodeSettings,
        mass_center: bool,
        num_classes: int,
        pixel_mean: list[float],
        pixel_std: list[float],
    ) -> None:
        """Wire the parts.

        Args:
            backbone: computes the pyramid.
            fcos_head: predicts boxes on its levels.
            mask_parts: predicts masks; None: boxes only.
            in_features: names of the levels, fine to coarse.
            matching: which box a location learns.
            loss_settings: FCOS's losses.
            decode_settings: FCOS's inference.
            mass_center: sample around centres of mass instead of box centres.
            num_classes: foreground classes.
            pixel_mean: subtracted from the image, one per channel.
            pixel_std: then divides it.
        """
        super().__init__()
        self.backbone = backbone
        self.fcos_head = fcos_head
        self.controller = mask_parts.controller if mask_parts else None
        self.mask_branch = mask_parts.branch if mask_parts else None
        self.semantic_head = mask_parts.semantic_head if mask_parts else None
        self.mask_spec = mask_parts.spec if mask_parts else None
        self.mask_backend = mask_parts.backend if mask_parts else None
        self.sampling = mask_parts.sampling if mask_parts else Sampling()
        self.supervision = mask_parts.supervision if mask_parts else None
        # Named as in the public implementations, whose checkpoints hold its buffer.
        self.mask_head = self.supervision.warm_up if self.supervision else None
        self.in_features = in_features
        self.matching = matching
        self.loss_settings = loss_settings
        self.decode_settings = decode_settings
        self.mass_center = mass_center
        self.num_classes = num_classes
        self.masks_as_runs = False  # in inference: pred_rles instead of pred_masks
        # Not saved, as in AdelaiDet: the moving mean starts over when training resumes.
        start = torch.tensor(fcos_losses.MOVING_START)
        self.register_buffer("moving_positives", start, persistent=False)
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments for a config.

        Raises:
            UserError: the config contradicts itself or refers to something that does not exist.
        """
        backbone = build_named_backbone(cfg)
        shapes = backbone.output_shape()
        names = list(cfg.MODEL.FCOS.IN_FEATURES)
        check_config(cfg, shapes)
        channels = int(shapes[names[0]].channels)
        return {
            "backbone": backbone,
            "fcos_head": FCOSHead(cfg, channels),
            "mask_parts": _build_mask_parts(cfg, shapes, channels) if cfg.MODEL.MASK_ON else None,
            "in_features": names,
            "matching": Matching.from_config(cfg),
            "loss_settings": LossSettings.from_config(cfg),
            "decode_settings": DecodeSettings.from_config(cfg),
            "mass_center": cfg.MODEL.CONDINST.CENTER == "mass" and cfg.MODEL.MASK_ON,
            "num_classes": cfg.MODEL.FCOS.NUM_CLASSES,
            "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": list(cfg.MODEL.PIXEL_STD),
        }

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Train or detect.

        Args:
            batched_inputs: one dict per image: ``image`` (3, h, w) in the config's channel order;
                in training ``instances``, possibly empty, with gt_boxes, gt_classes and gt_masks
                (BitMasks or PolygonMasks; not read when masks are learned from boxes); in inference
                optionally ``height`` and ``width`` of the original image.

        Returns:
            In training, the loss terms by name. In inference, a list of ``{"instances":
            Instances}`` with pred_boxes, scores, pred_classes and pred_masks (K, height, width)
            bool, all in the original image; with ``masks_as_runs``, instead of pred_masks,
            pred_rles: K dicts of COCO's ``size`` and ``counts``.
        """
        images = [self._normalise(x["image"]) for x in batched_inputs]
        if self.training:
            return self._losses(images, batched_inputs)
        # Images of one padded size form a batch, so that an image's result never depends on the
        # others in the batch.
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            groups[self._pad([image]).tensor.shape[-2:]].append(i)
        results: dict[int, dict[str, Instances]] = {}
        for indices in groups.values():
            sizes = [_original_size(batched_inputs[i], images[i]) for i in indices]
            found = self._detect([images[i] for i in indices], sizes)
            results.update(zip(indices, ({"instances": x} for x in found), strict=True))
        return [results[i] for i in range(len(images))]

    def _normalise(self, image: Tensor) -> Tensor:
        return (image.to(self.device) - self.pixel_mean) / self.pixel_std

    def _pad(self, images: list[Tensor]) -> ImageList:
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def _predict(self, features: dict[str, Tensor]) -> tuple[HeadOutput, list[Tensor]]:
        out = self.fcos_head([features[name] for name in self.in_features])
        locations = [
            cell_locations(x.shape[-2], x.shape[-1], stride, x.device)
            for x, stride in zip(out.logits, self.matching.strides, strict=True)
        ]
        return out, locations

    # Training

    def normalizers(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The normalisers of these images' losses; see `count_normalizers`."""
        return count_normalizers(self, batched_inputs)

    def ground_truths(self, instances: list[Instances], size: tuple[int, int]) -> list[GroundTruth]:
        """What the losses compare with, one per image of a batch padded to ``size``."""
        source = MaskSource.MASKS if self.supervision is None else self.supervision.source
        return [
            read_ground_truth(
                x.to(self.device), size, self.mask_strides(), self.mass_center, source
            )
            for x in instances
        ]

    def _losses(
        self, images: list[Tensor], batched_inputs: list[dict[str, Any]]
    ) -> dict[str, Tensor]:
        batch = self._pad(images)
        size = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        truths = self.ground_truths([x["instances"] for x in batched_inputs], size)
        features = self.backbone(batch.tensor)
        losses = {}
        # The terms are in AdelaiDet's order, on which the last bit of the summed gradients depends.
        maps = None if self.mask_branch is None else self.mask_branch(features)
        if self.semantic_head is not None:
            losses["loss_sem"] = self._semantic_loss(features, truths)
        out, locations = self._predict(features)
        targets = assign_batch(locations, truths, self.num_classes, self.matching)
        positive = (targets.labels < self.num_classes).nonzero(as_tuple=True)[0]  # (P,)
        losses.update(self._fcos_losses(out, targets, positive))
        if maps is not None:
            assert self.controller is not None
            assert self.supervision is not None
            assert self.mask_spec is not None
            assert self.mask_backend is not None
            found = collect_positives(out, self.controller, locations, targets, positive)
            chosen = sample(found, self.sampling)
            scene = scene_of(batched_inputs, truths, size, self.mask_spec.out_stride)
            heads = Heads(self.mask_spec, self.mask_backend, maps, chosen)
            losses.update(self.supervision.losses(heads, scene))
        return losses

    def mask_strides(self) -> tuple[int, ...]:
        """Strides at which ground-truth masks are needed."""
        if self.mask_spec is None:
            return ()
        strides = {self.mask_spec.out_stride}
        if self.semantic_head is not None:
            strides.add(self.mask_spec.feature_stride)
        return tuple(sorted(strides))

    def _fcos_losses(
        self, out: HeadOutput, targets: BatchTargets, positive: Tensor
    ) -> dict[str, Tensor]:
        settings = self.loss_settings
        logits = flatten(out.logits)  # (R, classes)
        wanted = targets.distances[positive]
        count = logits.new_tensor(float(len(positive)))
        num_positive = normalizer("positives", count).clamp(min=1.0)
        quality_sum = normalizer("centerness", fcos_losses.centerness(wanted).sum()).clamp(min=1e-6)
        total = fcos_losses.class_loss(logits, targets.labels, settings)
        divisor = self._class_normalizer(num_positive, len(logits))
        return {
            "loss_fcos_cls": total / divisor * settings.class_weight,
            **fcos_losses.box_losses(
                flatten(out.distances)[positive],
                flatten(out.quality)[positive, 0],
                wanted,
                num_positive,
                quality_sum,
                settings,
            ),
        }

    def _class_normalizer(self, num_positive: Tensor, num_locations: int) -> Tensor:
        if self.loss_settings.normalizer == "fg":
            return num_positive
        if self.loss_settings.normalizer == "all":
            return normalizer("locations", num_positive.new_tensor(float(num_locations)))
        momentum = fcos_losses.MOVING_MOMENTUM
        if begins_step():
            self.moving_positives.mul_(momentum).add_(num_positive, alpha=1 - momentum)
        return self.moving_positives.clone()

    def _semantic_loss(self, features: dict[str, Tensor], truths: list[GroundTruth]) -> Tensor:
        assert self.semantic_head is not None
        assert self.mask_branch is not None
        assert self.mask_spec is not None
        feature = features[self.mask_branch.in_features[0]]
        return self.semantic_head.loss(feature, truths, self.mask_spec.feature_stride)

    # Inference

    def _detect(self, images: list[Tensor], output_sizes: list[tuple[int, int]]) -> list[Instances]:
        batch = self._pad(images)
        features = self.backbone(batch.tensor)
        maps = None if self.mask_branch is None else self.mask_branch(features)
        out, locations = self._predict(features)
        found = decode(out, locations, self.matching.strides, self.decode_settings)
        results = []
        for i, detections in enumerate(found):
            image_size = (int(batch.image_sizes[i][0]), int(batch.image_sizes[i][1]))
            kept, boxes = to_original(detections, image_size, output_sizes[i])
            masks = None
            if maps is not None:
                assert self.controller is not None
                assert self.mask_spec is not None
                assert self.mask_backend is not None
                query = detection_query(out, self.controller, kept, i)
                backend = self.mask_backend
                make = backend.rles if self.masks_as_runs else backend.masks
                masks = make(self.mask_spec, maps, query, image_size, output_sizes[i])
            results.append(make_instances(kept, boxes, output_sizes[i], masks))
        return results


def _original_size(x: dict[str, Any], image: Tensor) -> tuple[int, int]:
    return int(x.get("height", image.shape[-2])), int(x.get("width", image.shape[-1]))


def _build_mask_parts(cfg: CfgNode, shapes: dict[str, Any], channels: int) -> MaskParts:
    branch = build_mask_branch(cfg, shapes)
    finest = shapes[branch.in_features[0]]
    spec = MaskHeadSpec.from_config(cfg, int(finest.stride))
    controller = nn.Conv2d(channels, spec.layout.num_params, 3, padding=1)
    init_normal(controller)
    semantic = None
    if cfg.MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON:
        semantic = SemanticHead(cfg, int(finest.channels))
    backend = get_backend(cfg.MODEL.CONDINST.BACKEND)
    sampling, supervision = Sampling.from_config(cfg), build_supervision(cfg)
    return MaskParts(controller, branch, semantic, spec, backend, sampling, supervision)
