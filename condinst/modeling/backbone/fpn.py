"""The FPN of FCOS: extra levels come from the pyramid's last level, not from the ResNet's.

Register: ``build_fcos_resnet_fpn_backbone``.
"""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from condinst.errors import UserError
from condinst.modeling.backbone.deformable import build_resnet


class TopLevels(nn.Module):
    """Up to two levels beyond the last: 3x3 stride-2 convolutions p6, then p7 on relu(p6).

    Args:
        channels: width of every level.
        num_levels: 1 or 2.
        in_feature: name of the level to start from.
        last: its number, such as 5 for p5.
    """

    def __init__(self, channels: int, num_levels: int, in_feature: str, last: int) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.in_feature = in_feature
        self._names = [f"p{last + 1 + i}" for i in range(num_levels)]
        for name in self._names:
            conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
            c2_xavier_fill(conv)
            self.add_module(name, conv)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, h, w) -> the extra levels, each half the size (rounded up) of the previous."""
        out: list[Tensor] = []
        for name in self._names:
            x = self.get_submodule(name)(out[-1].relu() if out else x)
            out.append(x)
        return out


def check_top_levels(cfg: CfgNode) -> int:
    """MODEL.FCOS.TOP_LEVELS, which must be 0, 1 or 2."""
    top_levels = cfg.MODEL.FCOS.TOP_LEVELS
    if top_levels not in (0, 1, 2):
        raise UserError(f"MODEL.FCOS.TOP_LEVELS = {top_levels}: use 0, 1 or 2")
    return top_levels


def attach_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Put the pyramid of MODEL.FPN and MODEL.FCOS.TOP_LEVELS extra levels on a network."""
    in_features = list(cfg.MODEL.FPN.IN_FEATURES)
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    shapes = bottom_up.output_shape()
    missing = [f for f in in_features if f not in shapes]
    if not in_features or missing:
        raise UserError(
            f"MODEL.FPN.IN_FEATURES = {in_features}: the backbone gives {sorted(shapes)}; "
            "use some of these, or make it output more (MODEL.RESNETS.OUT_FEATURES)"
        )
    last_stride = shapes[in_features[-1]].stride
    assert last_stride is not None
    last = last_stride.bit_length() - 1
    top_levels = check_top_levels(cfg)
    top = TopLevels(channels, top_levels, f"p{last}", last) if top_levels else None
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_bottom_up(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The network under the pyramid: detectron2's ResNet, or MobileNetV2 with MODEL.MOBILENET."""
    if cfg.MODEL.BACKBONE.ANTI_ALIAS:
        raise UserError("MODEL.BACKBONE.ANTI_ALIAS is not supported: leave it False")
    if cfg.MODEL.MOBILENET:
        return BACKBONE_REGISTRY.get("build_mnv2_backbone")(cfg, input_shape)
    return build_resnet(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_fcos_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """ResNet (MODEL.RESNETS) with FCOS's FPN."""
    return attach_fpn(cfg, build_bottom_up(cfg, input_shape))
