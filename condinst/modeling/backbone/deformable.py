"""detectron2's ResNet with deformable convolutions, by torchvision's operator.

detectron2's own needs its compiled extension. The parameter names are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec
from detectron2.modeling import build_resnet_backbone
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from condinst.errors import UserError

_TAPS = 9  # of a 3x3 kernel


class DeformableConv(nn.Module):
    """The 3x3 convolution of a bottleneck with shifted taps; a norm may follow.

    Args:
        conv: the plain convolution; its weights, stride, dilation, groups and norm are used.
    """

    def __init__(self, conv: Conv2d) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.weight = conv.weight
        self.norm = conv.norm

    def forward(self, x: Tensor, offsets: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) -> (B, C, h', w').

        Args:
            x: the map.
            offsets: (B, 2 * 9 * groups, h', w') rows down and columns right in turn, per tap.
            mask: (B, 9 * groups, h', w') factors, or None for ones.
        """
        kind = torch.float64 if x.dtype == torch.float64 else torch.float32  # half: not on a CPU
        made = deform_conv2d(
            x.to(kind),
            offsets.to(kind),
            self.weight.to(kind),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=None if mask is None else mask.to(kind),
        ).to(x.dtype)
        return made if self.norm is None else self.norm(made)


class DeformableBlock(CNNBlockBase):
    """A bottleneck whose 3x3 convolution is deformable (https://arxiv.org/abs/1811.11168).

    Args:
        block: the plain block; its parts are used.
        modulated: taps also have learned factors.
        groups: groups of channels whose taps move together.
    """

    def __init__(self, block: BottleneckBlock, modulated: bool, groups: int) -> None:
        super().__init__(block.in_channels, block.out_channels, block.stride)
        self.modulated = modulated
        self.groups = groups
        self.shortcut = block.shortcut
        self.conv1 = block.conv1
        plain = block.conv2
        self.conv2_offset = Conv2d(
            plain.in_channels,
            (3 if modulated else 2) * _TAPS * groups,
            kernel_size=3,
            stride=plain.stride,
            padding=plain.padding,
            dilation=plain.dilation,
        )
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.zeros_(self.conv2_offset.bias)
        self.conv2 = DeformableConv(plain)
        self.conv3 = block.conv3

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        out = F.relu_(self.conv1(x))
        made = self.conv2_offset(out)
        moved = 2 * _TAPS * self.groups
        mask = made[:, moved:].sigmoid() if self.modulated else None
        out = self.conv3(F.relu_(self.conv2(out, made[:, :moved], mask)))
        return F.relu_(out + (x if self.shortcut is None else self.shortcut(x)))


def build_resnet(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """detectron2's ResNet, with some deformable blocks in the stages of DEFORM_ON_PER_STAGE.

    Raises:
        UserError: MODEL.RESNETS.DEFORM_INTERVAL is below 1, or the depth has no bottlenecks.
    """
    node = cfg.MODEL.RESNETS
    if not any(node.DEFORM_ON_PER_STAGE):
        return build_resnet_backbone(cfg, input_shape)
    if node.DEFORM_INTERVAL < 1 or node.DEPTH < 50:
        raise UserError(
            f"MODEL.RESNETS.DEFORM_INTERVAL = {node.DEFORM_INTERVAL}, DEPTH = {node.DEPTH}: "
            "deformable stages need an interval of 1 or more and a depth of 50 or more"
        )
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * 4
    network = build_resnet_backbone(plain, input_shape)
    for stage, deformable in zip(network.stages, node.DEFORM_ON_PER_STAGE, strict=False):
        for i in range(0, len(stage) if deformable else 0, node.DEFORM_INTERVAL):
            made = DeformableBlock(stage[i], node.DEFORM_MODULATED, node.DEFORM_NUM_GROUPS)
            frozen = not any(p.requires_grad for p in stage[i].parameters())
            stage[i] = made.requires_grad_(not frozen)
    return network
