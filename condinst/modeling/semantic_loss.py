"""The auxiliary semantic segmentation loss on the finest mask-branch level; used in training only.

Letters: ``B`` images, ``M`` instances of one, ``h, w`` size of the level.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor, nn

from condinst.layers.conv import conv_norm_relu, init_kaiming
from condinst.layers.distributed import normalizer
from condinst.modeling.fcos.head import prior_bias
from condinst.modeling.ground_truth import GroundTruth


class SemanticHead(nn.Module):
    """Two 3x3 blocks and a 1x1 classifier, with their focal loss."""

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_classes: int,
        norm: str,
        alpha: float,
        gamma: float,
        prior_prob: float,
    ) -> None:
        """Build the head.

        Args:
            in_channels: width of the level.
            channels: width inside.
            num_classes: foreground classes.
            norm: norm of the blocks.
            alpha: weight of positives in the focal loss.
            gamma: its exponent.
            prior_prob: class probability at the start.
        """
        super().__init__()
        blocks = [conv_norm_relu(c, channels, norm) for c in (in_channels, channels)]
        self.tower = nn.Sequential(*blocks)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        init_kaiming(self.logits)
        nn.init.constant_(self.logits.bias, prior_bias(prior_prob))  # type: ignore[arg-type]
        self.alpha = alpha
        self.gamma = gamma

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        """The arguments for a config."""
        branch, fcos = cfg.MODEL.CONDINST.MASK_BRANCH, cfg.MODEL.FCOS
        return {
            "in_channels": in_channels,
            "channels": branch.CHANNELS if branch.CHANNELS > 0 else in_channels,
            "num_classes": fcos.NUM_CLASSES,
            "norm": fcos.NORM if branch.NORM == "fcos" else branch.NORM,
            "alpha": fcos.LOSS_ALPHA,
            "gamma": fcos.LOSS_GAMMA,
            "prior_prob": fcos.PRIOR_PROB,
        }

    def loss(self, feature: Tensor, truths: list[GroundTruth], stride: int) -> Tensor:
        """Focal loss over pixels, divided by the mean positive pixels per worker (at least 1).

        Args:
            feature: (B, C, h, w).
            truths: one per image, with masks at ``stride``.
            stride: the level's stride.
        """
        logits = self.logits(self.tower(feature))  # (B, classes, h, w)
        labels = torch.stack([semantic_labels(t, stride, logits.shape[1]) for t in truths])
        one_hot = torch.zeros_like(logits)
        image, y, x = (labels < logits.shape[1]).nonzero(as_tuple=True)
        one_hot[image, labels[image, y, x], y, x] = 1
        total = sigmoid_focal_loss(logits, one_hot, self.alpha, self.gamma, reduction="sum")
        pixels = normalizer("pixels", total.new_tensor(float(len(image))))
        return total / pixels.clamp(min=1.0)


def semantic_labels(truth: GroundTruth, stride: int, num_classes: int) -> Tensor:
    """(h, w) class of the smallest instance at each sampled pixel, else ``num_classes``."""
    assert truth.masks is not None
    assert stride in truth.masks.masks
    masks, areas = truth.masks.masks[stride], truth.masks.areas  # (M, h, w), (M,)
    if len(areas) == 0:
        return torch.full(masks.shape[1:], num_classes, device=masks.device)
    nowhere = torch.iinfo(areas.dtype).max
    smallest, index = torch.where(masks, areas[:, None, None], nowhere).min(dim=0)
    return torch.where(smallest < nowhere, truth.classes[index], num_classes)
