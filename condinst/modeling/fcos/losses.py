"""The losses of FCOS, as pure functions.

Letters: ``R`` locations, ``P`` positive ones. Distances are left, top, right, bottom in units of
    the stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor

from condinst.errors import UserError

LOCATION_LOSSES = ("iou", "linear_iou", "giou")
QUALITIES = ("ctrness", "iou")
NORMALIZERS = ("fg", "moving_fg", "all")
MOVING_START = 100.0
MOVING_MOMENTUM = 0.9


@dataclass(frozen=True)
class LossSettings:
    """The choice of losses; the attributes are MODEL.FCOS's LOSS_ALPHA, LOSS_GAMMA and so on."""

    alpha: float = 0.25
    gamma: float = 2.0
    class_weight: float = 1.0
    normalizer: str = "fg"
    location: str = "giou"
    quality: str = "ctrness"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> LossSettings:
        """Read MODEL.FCOS.

        Raises:
            UserError: a name is unknown.
        """
        node = cfg.MODEL.FCOS
        for key, allowed in (
            ("LOC_LOSS_TYPE", LOCATION_LOSSES),
            ("BOX_QUALITY", QUALITIES),
            ("LOSS_NORMALIZER_CLS", NORMALIZERS),
        ):
            if node[key] not in allowed:
                raise UserError(
                    f"MODEL.FCOS.{key} = {node[key]!r}: use one of {', '.join(allowed)}"
                )
        return cls(
            alpha=node.LOSS_ALPHA,
            gamma=node.LOSS_GAMMA,
            class_weight=node.LOSS_WEIGHT_CLS,
            normalizer=node.LOSS_NORMALIZER_CLS,
            location=node.LOC_LOSS_TYPE,
            quality=node.BOX_QUALITY,
        )


class Overlap(NamedTuple):
    """IoU and generalised IoU of box pairs, (P,) each."""

    iou: Tensor
    giou: Tensor


def class_loss(logits: Tensor, labels: Tensor, settings: LossSettings) -> Tensor:
    """Summed sigmoid focal loss (https://arxiv.org/abs/1708.02002).

    Args:
        logits: (R, classes).
        labels: (R,) in [0, classes]; the last means background.
        settings: alpha and gamma.
    """
    one_hot = torch.zeros_like(logits)
    positive = (labels < logits.shape[1]).nonzero(as_tuple=True)[0]
    one_hot[positive, labels[positive]] = 1
    return sigmoid_focal_loss(logits, one_hot, settings.alpha, settings.gamma, reduction="sum")


def centerness(distances: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of (P, 4) positive distances: (P,)."""
    across, down = distances[:, [0, 2]], distances[:, [1, 3]]
    ratio = across.amin(1) / across.amax(1) * (down.amin(1) / down.amax(1))
    return ratio.sqrt()


def overlap(predicted: Tensor, target: Tensor) -> Overlap:
    """Overlap of boxes that share the location their (P, 4) distances start from.

    One is added to intersection and union, so empty predictions have a gradient.
    """
    left, top, right, bottom = predicted.unbind(1)
    left_t, top_t, right_t, bottom_t = target.unbind(1)
    area_t = (left_t + right_t) * (top_t + bottom_t)
    area = (left + right) * (top + bottom)
    width = torch.minimum(left, left_t) + torch.minimum(right, right_t)
    height = torch.minimum(bottom, bottom_t) + torch.minimum(top, top_t)
    hull_width = torch.maximum(left, left_t) + torch.maximum(right, right_t)
    hull_height = torch.maximum(bottom, bottom_t) + torch.maximum(top, top_t)
    hull = hull_width * hull_height
    intersection = width * height
    union = area_t + area - intersection
    iou = (intersection + 1) / (union + 1)
    return Overlap(iou, iou - (hull - union) / hull)


def location_loss(pairs: Overlap, kind: str) -> Tensor:
    """Loss of each pair, (P,): -log(iou), 1 - iou or 1 - giou."""
    if kind == "iou":
        return -pairs.iou.log()
    if kind == "linear_iou":
        return 1 - pairs.iou
    assert kind == "giou", kind
    return 1 - pairs.giou


def box_losses(
    distances: Tensor,
    quality: Tensor,
    target: Tensor,
    num_positive: Tensor,
    centerness_sum: Tensor,
    settings: LossSettings,
) -> dict[str, Tensor]:
    """Location and quality losses of the positives.

    Args:
        distances: (P, 4) predicted; P may be 0, the losses are then 0 and connected to the graph.
        quality: (P,) predicted logits.
        target: (P, 4).
        num_positive: mean number of positives per worker, at least 1.
        centerness_sum: mean sum of centreness targets per worker, at least 1e-6; used with
            centreness.
        settings: which losses.
    """
    pairs = overlap(distances, target)
    losses = location_loss(pairs, settings.location)
    if settings.quality == "iou":
        iou_loss = F.binary_cross_entropy_with_logits(quality, pairs.iou.detach(), reduction="sum")
        return {
            "loss_fcos_loc": losses.sum() / num_positive,
            "loss_fcos_iou": iou_loss / num_positive,
        }
    wanted = centerness(target)
    quality_loss = F.binary_cross_entropy_with_logits(quality, wanted, reduction="sum")
    return {
        "loss_fcos_loc": (losses * wanted).sum() / centerness_sum,
        "loss_fcos_ctr": quality_loss / num_positive,
    }
