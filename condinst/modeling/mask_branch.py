"""The mask branch: features that all instances of an image share, at its finest input's stride.

Letters: ``B`` images, ``h, w`` size of the finest input, ``C`` channels out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from condinst.errors import UserError
from condinst.layers.conv import conv_norm_relu, init_kaiming, make_norm
from condinst.layers.upsampling import aligned_bilinear


class MultiLevelMaskBranch(nn.Module):
    """AdelaiDet's: levels refined, aligned-upsampled to the finest and added, then a tower.

    Args:
        in_features: names of the levels, finest first.
        input_shape: the backbone's output shape.
        channels: width inside.
        out_channels: C.
        num_convs: 3x3 blocks after the sum.
        norm: norm of the blocks.
    """

    def __init__(
        self,
        in_features: list[str],
        input_shape: Mapping[str, ShapeSpec],
        channels: int,
        out_channels: int,
        num_convs: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        widths = [int(input_shape[f].channels or 0) for f in in_features]
        self.refine = nn.ModuleList(conv_norm_relu(w, channels, norm) for w in widths)
        last = nn.Conv2d(channels, out_channels, 1)
        init_kaiming(last)
        blocks = [conv_norm_relu(channels, channels, norm) for _ in range(num_convs)]
        self.tower = nn.Sequential(*blocks, last)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Pyramid levels by name -> (B, C, h, w)."""
        total: Tensor | None = None
        for name, refine in zip(self.in_features, self.refine, strict=True):
            x = refine(features[name])
            if total is None:
                total = x
                continue
            factor = total.shape[-2] // x.shape[-2]
            x = aligned_bilinear(x, factor)
            assert x.shape == total.shape, (name, x.shape, total.shape)
            total = total + x
        assert total is not None
        return self.tower(total)


class SingleLevelMaskBranch(nn.Module):
    """Epiphqny's: 3x3 conv with bias, norm and ReLU, repeated, on the finest level only.

    Args:
        in_feature: name of the level.
        in_channels: its width.
        channels: width inside.
        out_channels: C.
        num_convs: how many repeats.
        norm: their norm.
    """

    def __init__(
        self,
        in_feature: str,
        in_channels: int,
        channels: int,
        out_channels: int,
        num_convs: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.in_features = [in_feature]
        blocks = []
        for i in range(num_convs):
            made = make_norm(norm, channels)
            conv = nn.Conv2d(channels if i else in_channels, channels, 3, padding=1)
            blocks.append(nn.Sequential(conv, *([] if made is None else [made]), nn.ReLU()))
        last = nn.Conv2d(channels if num_convs else in_channels, out_channels, 3, padding=1)
        nn.init.normal_(last.weight, std=0.01)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.tower = nn.Sequential(*blocks, last)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Pyramid levels by name -> (B, C, h, w)."""
        return self.tower(features[self.in_features[0]])


class NoMaskFeatures(nn.Module):
    """No features: (B, 0, h, w), for heads that only see coordinates."""

    def __init__(self, in_feature: str) -> None:
        super().__init__()
        self.in_features = [in_feature]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Pyramid levels by name -> (B, 0, h, w)."""
        x = features[self.in_features[0]]
        return torch.zeros_like(x[:, :0])


MaskBranch = MultiLevelMaskBranch | SingleLevelMaskBranch | NoMaskFeatures


def build_mask_branch(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> MaskBranch:
    """The mask branch of MODEL.CONDINST.

    Raises:
        UserError: a level or the kind is unknown.
    """
    node = cfg.MODEL.CONDINST.MASK_BRANCH
    names = list(node.IN_FEATURES)
    missing = [name for name in names if name not in input_shape]
    if not names or missing:
        raise UserError(
            f"MODEL.CONDINST.MASK_BRANCH.IN_FEATURES = {names}: "
            f"the backbone gives {sorted(input_shape)}"
        )
    if not cfg.MODEL.CONDINST.USE_MASK_FEATURES:
        return NoMaskFeatures(names[0])
    in_channels = int(input_shape[names[0]].channels or 0)
    channels = node.CHANNELS if node.CHANNELS > 0 else in_channels
    norm = cfg.MODEL.FCOS.NORM if node.NORM == "fcos" else node.NORM
    sizes = (channels, node.OUT_CHANNELS, node.NUM_CONVS, norm)
    if node.KIND == "multi_level":
        return MultiLevelMaskBranch(names, input_shape, *sizes)
    if node.KIND == "single_level":
        return SingleLevelMaskBranch(names[0], in_channels, *sizes)
    raise UserError(
        f"MODEL.CONDINST.MASK_BRANCH.KIND = {node.KIND!r}: use multi_level or single_level"
    )
