"""The detection head that all pyramid levels share.

Letters: ``B`` images, ``C`` channels of the pyramid, ``h, w`` size of a level.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from condinst.errors import UserError
from condinst.layers.conv import Tower, init_normal

_NORMS = ("GN", "NaiveGN", "BN", "SyncBN", "none")


class HeadOutput(NamedTuple):
    """Predictions, one entry per level.

    Attributes:
        logits: (B, classes, h, w) each.
        distances: (B, 4, h, w), left, top, right, bottom in units of the level's stride, >= 0.
        quality: (B, 1, h, w), logits of the box quality.
        box_features: (B, C, h, w), the box tower's output.
    """

    logits: list[Tensor]
    distances: list[Tensor]
    quality: list[Tensor]
    box_features: list[Tensor]


class FCOSHead(nn.Module):
    """Class tower, box tower and their predictors."""

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_levels: int,
        num_share_convs: int = 0,
        num_cls_convs: int = 4,
        num_box_convs: int = 4,
        norm: str = "GN",
        use_scale: bool = True,
        use_deformable: bool = False,
        prior_prob: float = 0.01,
    ) -> None:
        """Build the head.

        Args:
            in_channels: width of every level, C.
            num_classes: foreground classes.
            num_levels: number of levels, for scales and for norms that are not shared.
            num_share_convs: convolutions before both towers.
            num_cls_convs: convolutions of the class tower.
            num_box_convs: convolutions of the box tower.
            norm: GN, NaiveGN, BN, SyncBN or none.
            use_scale: whether each level has a learnable factor on its distances.
            use_deformable: whether the towers' last convolutions are deformable.
            prior_prob: class probability at the start.
        """
        super().__init__()
        if norm not in _NORMS:
            raise UserError(f"MODEL.FCOS.NORM = {norm!r}: use one of {', '.join(_NORMS)}")

        def tower(num_convs: int, deformable: bool) -> Tower:
            return Tower(in_channels, num_convs, norm, num_levels, deformable)

        self.share_tower = tower(num_share_convs, False)
        self.cls_tower = tower(num_cls_convs, use_deformable)
        self.bbox_tower = tower(num_box_convs, use_deformable)
        self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(num_levels)) if use_scale else None
        init_normal(self)
        nn.init.constant_(self.cls_logits.bias, prior_bias(prior_prob))  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        """The arguments for a config."""
        node = cfg.MODEL.FCOS
        return {
            "in_channels": in_channels,
            "num_classes": node.NUM_CLASSES,
            "num_levels": len(node.IN_FEATURES),
            "num_share_convs": node.NUM_SHARE_CONVS,
            "num_cls_convs": node.NUM_CLS_CONVS,
            "num_box_convs": node.NUM_BOX_CONVS,
            "norm": node.NORM,
            "use_scale": node.USE_SCALE,
            "use_deformable": node.USE_DEFORMABLE,
            "prior_prob": node.PRIOR_PROB,
        }

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict on every level: (B, C, h, w) each, fine to coarse."""
        out = HeadOutput([], [], [], [])
        for level, x in enumerate(features):
            x = self.share_tower(x, level)
            classes, box = self.cls_tower(x, level), self.bbox_tower(x, level)
            out.logits.append(self.cls_logits(classes))
            out.quality.append(self.ctrness(box))
            raw = self.bbox_pred(box)
            if self.scales is not None:
                raw = raw * self.scales[level]
            out.distances.append(raw.relu())
            out.box_features.append(box)
        return out


def prior_bias(probability: float) -> float:
    """The bias whose sigmoid is ``probability`` (RetinaNet's initialisation)."""
    if not 0 < probability < 1:
        raise UserError(f"MODEL.FCOS.PRIOR_PROB = {probability}: use a number between 0 and 1")
    return -math.log((1 - probability) / probability)


def flatten(levels: list[Tensor]) -> Tensor:
    """(B, C, h, w) per level -> (R, C) in single precision, ordered by level, image, cell."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in levels]).float()
