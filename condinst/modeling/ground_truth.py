"""Ground truth in the form that the losses use; masks are kept only at the strides in use.

Letters: ``M`` instances of an image, ``H, W`` size of the padded image, ``s`` stride.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Instances, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask
from torch import Tensor

from condinst.errors import UserError
from condinst.modeling.supervision.box import box_masks, box_spans


class MaskSource(Enum):
    """Where an object's mask comes from."""

    MASKS = "masks"  # the data's, which every object must have
    BOXES = "boxes"  # its box; masks in the data are not read
    EITHER = "either"  # the data's where the object has one, else its box


class MaskSamples(NamedTuple):
    """What is kept of the full-size masks of one image.

    Attributes:
        masks: stride -> (M, H / s, W / s) bool, every s-th pixel from s // 2.
        areas: (M,) pixels of each full mask.
        centers: (M, 2) centre of mass, x then y; (0, 0) for an empty mask.
        drawn: (M,) bool, whether the mask comes from the data, not from the object's box.
    """

    masks: dict[int, Tensor]
    areas: Tensor
    centers: Tensor
    drawn: Tensor


class GroundTruth(NamedTuple):
    """One image's instances.

    Attributes:
        boxes: (M, 4) xyxy pixels.
        classes: (M,).
        centers: (M, 2) centres for centre sampling.
        masks: None without masks.
    """

    boxes: Tensor
    classes: Tensor
    centers: Tensor
    masks: MaskSamples | None


def read_ground_truth(
    instances: Instances,
    size: tuple[int, int],
    strides: tuple[int, ...],
    mass_center: bool,
    source: MaskSource = MaskSource.MASKS,
) -> GroundTruth:
    """Read detectron2's instances of one image.

    Args:
        instances: gt_boxes, gt_classes and, if ``strides`` are given and the source is not boxes,
            gt_masks. With EITHER, gt_has_mask (M,) bool says which masks count; without it, all
            non-empty ones do.
        size: (H, W).
        strides: strides at which masks are needed; none: masks are only read for centres.
        mass_center: use the masks' centres of mass instead of the boxes' centres.
        source: where masks come from.

    Raises:
        UserError: masks are needed but missing.
    """
    boxes, classes = instances.gt_boxes.tensor, instances.gt_classes
    centers = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    if not strides:
        return GroundTruth(boxes, classes, centers, None)
    if source is not MaskSource.MASKS:
        samples = box_samples(boxes, size, strides)
        if source is MaskSource.EITHER and len(boxes) and instances.has("gt_masks"):
            samples = _drawn_over(samples, instances, size, strides)
    elif not instances.has("gt_masks"):
        if len(boxes):
            raise UserError(
                "training instances have no gt_masks: keep segmentations in the mapper "
                "(MODEL.MASK_ON True), learn masks from boxes with MODEL.BOXINST.ENABLED True, or "
                "train only boxes with MODEL.MASK_ON False"
            )
        samples = sample_masks(BitMasks(torch.zeros(0, *size)), size, strides, boxes.device)
    else:
        samples = sample_masks(instances.gt_masks, size, strides, boxes.device)
    if mass_center:
        centers = samples.centers
    return GroundTruth(boxes, classes, centers, samples)


def box_samples(boxes: Tensor, size: tuple[int, int], strides: tuple[int, ...]) -> MaskSamples:
    """Boxes as masks; see `box_spans`.

    Args:
        boxes: (M, 4) xyxy pixels.
        size: (H, W).
        strides: strides to sample at.
    """
    top, bottom, left, right = (x.double() for x in box_spans(boxes, size, 1).unbind(1))
    areas = (bottom - top).clamp(min=0) * (right - left).clamp(min=0)
    centers = torch.stack((left + right - 1, top + bottom - 1), dim=1) / 2
    centers = torch.where(areas[:, None] > 0, centers, torch.zeros_like(centers))
    return MaskSamples(
        {
            s: box_masks(box_spans(boxes, size, s), (-(-size[0] // s), -(-size[1] // s)))
            for s in strides
        },
        areas.long(),
        centers.float(),
        torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device),
    )


def _drawn_over(
    samples: MaskSamples, instances: Instances, size: tuple[int, int], strides: tuple[int, ...]
) -> MaskSamples:
    """Replace boxes by the data's masks where there are any."""
    masks = instances.gt_masks
    drawn = instances.gt_has_mask if instances.has("gt_has_mask") else masks.nonempty()
    drawn = drawn.to(samples.areas.device)
    given = sample_masks(masks, size, strides, samples.areas.device)
    return MaskSamples(
        {s: torch.where(drawn[:, None, None], given.masks[s], samples.masks[s]) for s in strides},
        torch.where(drawn, given.areas, samples.areas),
        torch.where(drawn[:, None], given.centers, samples.centers),
        drawn,
    )


def sample_masks(
    masks: BitMasks | PolygonMasks,
    size: tuple[int, int],
    strides: tuple[int, ...],
    device: torch.device | str,
) -> MaskSamples:
    """Rasterise at full size, one polygon mask at a time, and keep samples, areas and centres.

    Args:
        masks: M masks, at most (H, W) in size; missing rows and columns are background.
        size: (H, W).
        strides: strides to sample at.
        device: of the result.
    """
    if isinstance(masks, BitMasks):
        return _sample_bitmasks(masks.tensor.to(device), size, strides)
    assert isinstance(masks, PolygonMasks), (
        f"gt_masks are {type(masks).__name__}, not BitMasks or PolygonMasks"
    )
    parts = [
        _sample_bitmasks(torch.from_numpy(_rasterise(polygons, size))[None], size, strides)
        for polygons in masks.polygons
    ]
    parts = parts or [_sample_bitmasks(torch.zeros(0, *size, dtype=torch.bool), size, strides)]
    return MaskSamples(
        {s: torch.cat([p.masks[s] for p in parts]).to(device) for s in strides},
        torch.cat([p.areas for p in parts]).to(device),
        torch.cat([p.centers for p in parts]).to(device),
        torch.cat([p.drawn for p in parts]).to(device),
    )


def _rasterise(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return polygons_to_bitmask(polygons, *size)


def _sample_bitmasks(masks: Tensor, size: tuple[int, int], strides: tuple[int, ...]) -> MaskSamples:
    masks = masks.bool()
    missing = (size[1] - masks.shape[2], size[0] - masks.shape[1])
    assert min(missing) >= 0, (masks.shape, size)
    if max(missing):
        masks = F.pad(masks, (0, missing[0], 0, missing[1]))
    columns, rows = masks.sum(1).double(), masks.sum(2).double()  # (M, W), (M, H)
    areas = rows.sum(1)
    x = columns @ torch.arange(size[1], device=masks.device, dtype=torch.float64)
    y = rows @ torch.arange(size[0], device=masks.device, dtype=torch.float64)
    centers = torch.stack((x, y), dim=1) / areas.clamp(min=1e-6)[:, None]
    # Cloned so that the full-size masks can be freed.
    sampled = {s: masks[:, s // 2 :: s, s // 2 :: s].clone() for s in strides}
    return MaskSamples(sampled, areas.long(), centers.float(), torch.ones_like(areas).bool())
