"""BiFPN (https://arxiv.org/abs/1911.09070), wired as AdelaiDet's published CondInst models.

Register: ``build_fcos_resnet_bifpn_backbone``.

A layer takes five maps, 0 (fine) to 4 (coarse). Its nodes are numbered from 5; later nodes read
earlier ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from condinst.errors import UserError
from condinst.layers.conv import make_norm
from condinst.modeling.backbone.fpn import build_bottom_up, check_top_levels

_EPS = 1e-4


class Node(NamedTuple):
    """One node: the level whose size it has, and the numbers of its inputs."""

    level: int
    inputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Part of the names of its parameters, such as f1_1_7_8."""
        return f"f{self.level}_" + "_".join(map(str, self.inputs))


NODES = (
    Node(3, (3, 4)),
    Node(2, (2, 5)),
    Node(1, (1, 6)),
    Node(0, (0, 7)),
    Node(1, (1, 7, 8)),
    Node(2, (2, 6, 9)),
    Node(3, (3, 5, 10)),
    Node(4, (4, 11)),
)
NUM_LEVELS = 5


def _conv(channels_in: int, channels_out: int, kernel: int, norm: str, bias: bool) -> Conv2d:
    made = make_norm(norm, channels_out)
    bias = bias or made is None
    conv = Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=bias, norm=made)
    c2_xavier_fill(conv)
    return conv


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    """Bring a map of a neighbouring level to ``size``: max-pool if finer, nearest if coarser."""
    if x.shape[-2] > size[0] or x.shape[-1] > size[1]:
        x = _halve(x)
    if x.shape[-2:] != size:
        x = F.interpolate(x, size=(size[0], size[1]), mode="nearest")
    return x


class ExtraLevel(nn.Module):
    """A level made from the previous one: 1x1 conv + norm if widths differ, then a max-pool."""

    def __init__(self, channels_in: int, channels_out: int, norm: str) -> None:
        super().__init__()
        self.reduction: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.reduction = _conv(channels_in, channels_out, 1, norm, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', ceil(h / 2), ceil(w / 2))."""
        return _halve(self.reduction(x))


class BottomUp(nn.Module):
    """The bottom-up network and the levels added beyond its last one."""

    def __init__(
        self, backbone: Backbone, features: list[str], extra: int, channels: int, norm: str
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self._features = list(features)
        shapes = backbone.output_shape()
        widths = [shapes[f].channels for f in features]
        strides = [shapes[f].stride for f in features]
        stage = int(strides[-1] or 0).bit_length() - 1
        self._extra = [f"res{stage + 1 + i}" for i in range(extra)]
        for name in self._extra:
            self.add_module(name, ExtraLevel(int(widths[-1] or 0), channels, norm))
            widths.append(channels)
            strides.append(2 * int(strides[-1] or 0))
        self.channels = [int(c or 0) for c in widths]
        self.strides = [int(s or 0) for s in strides]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the levels, fine to coarse."""
        out = self.backbone(x)
        levels = [out[f] for f in self._features]
        for name in self._extra:
            levels.append(self.get_submodule(name)(levels[-1]))
        return levels


class BiFPNLayer(nn.Module):
    """One round of weighted fusion, top-down then bottom-up.

    Args:
        channels_in: widths of the five inputs.
        channels: width of every node.
        norm: norm after its convolutions.
    """

    def __init__(self, channels_in: list[int], channels: int, norm: str) -> None:
        super().__init__()
        widths = list(channels_in)
        for node in NODES:
            # An input of another width has one projection, shared by both nodes that read it.
            for i in node.inputs:
                name = self._lateral(i, node.level)
                if widths[i] != channels and not hasattr(self, name):
                    self.add_module(name, _conv(widths[i], channels, 1, norm, bias=True))
            self.register_parameter(
                f"weights_{node.name}", nn.Parameter(torch.ones(len(node.inputs)))
            )
            self.add_module(f"outputs_{node.name}", _conv(channels, channels, 3, norm, bias=False))
            widths.append(channels)

    @staticmethod
    def _lateral(i: int, level: int) -> str:
        return f"lateral_{i}_f{level}"

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Five maps in, the last node of each level out."""
        assert len(levels) == NUM_LEVELS, len(levels)
        maps = list(levels)
        last: dict[int, Tensor] = {}
        for node in NODES:
            size = levels[node.level].shape[-2:]
            inputs = []
            for i in node.inputs:
                x = maps[i]
                lateral = getattr(self, self._lateral(i, node.level), None)
                inputs.append(_resize(x if lateral is None else lateral(x), size))
            weights = self.get_parameter(f"weights_{node.name}").relu()
            weights = weights / (weights.sum() + _EPS)
            fused = (weights * torch.stack(inputs, dim=-1)).sum(dim=-1)
            swish = fused * fused.sigmoid()  # not F.silu: its gradient rounds differently
            last[node.level] = self.get_submodule(f"outputs_{node.name}")(swish)
            maps.append(last[node.level])
        return [last[level] for level in range(NUM_LEVELS)]


class BiFPN(Backbone):
    """A backbone with repeated BiFPN layers on it; outputs p3, p4, ... by stride.

    Args:
        bottom_up: the network below, giving five levels.
        channels: width of the outputs.
        num_repeats: how many layers.
        norm: norm after their convolutions.
    """

    def __init__(self, bottom_up: BottomUp, channels: int, num_repeats: int, norm: str) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        widths = [bottom_up.channels] + [[channels] * NUM_LEVELS] * (num_repeats - 1)
        self.repeated_bifpn = nn.ModuleList(BiFPNLayer(w, channels, norm) for w in widths)
        names = [f"p{stride.bit_length() - 1}" for stride in bottom_up.strides]
        self._out_features = names
        self._out_feature_strides = dict(zip(names, bottom_up.strides, strict=True))
        self._out_feature_channels = dict.fromkeys(names, channels)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this."""
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> {"p3": (B, C, H / 8, W / 8), ...}."""
        levels = self.bottom_up(x)
        for layer in self.repeated_bifpn:
            levels = layer(levels)
        return dict(zip(self._out_features, levels, strict=True))


@BACKBONE_REGISTRY.register()
def build_fcos_resnet_bifpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> BiFPN:
    """ResNet (MODEL.RESNETS) with MODEL.BiFPN and MODEL.FCOS.TOP_LEVELS extra levels."""
    node = cfg.MODEL.BiFPN
    features, top_levels = list(node.IN_FEATURES), check_top_levels(cfg)
    if len(features) + top_levels != NUM_LEVELS:
        raise UserError(
            f"BiFPN has {NUM_LEVELS} levels, got MODEL.BiFPN.IN_FEATURES = {features} and "
            f"MODEL.FCOS.TOP_LEVELS = {top_levels}: together they must be {NUM_LEVELS}"
        )
    net = build_bottom_up(cfg, input_shape)
    bottom_up = BottomUp(net, features, top_levels, node.OUT_CHANNELS, node.NORM)
    return BiFPN(bottom_up, node.OUT_CHANNELS, node.NUM_REPEATS, node.NORM)
