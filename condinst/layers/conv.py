"""Convolution blocks: norms by name, conv + norm + ReLU, towers, a deformable convolution."""

from __future__ import annotations

from math import gcd

import torch
from detectron2.layers import NaiveSyncBatchNorm, get_norm
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

_GROUPS = 32


def make_norm(norm: str, channels: int) -> nn.Module | None:
    """A norm by its config name.

    Args:
        norm: GN, NaiveGN (the same numbers), BN, SyncBN, FrozenBN, ...; "" and "none" mean none.
        channels: its width. GroupNorm has 32 groups, or the most that divide both 32 and the width.

    Returns:
        The module, or None for no norm.
    """
    if norm in ("", "none"):
        return None
    if norm in ("GN", "NaiveGN"):
        return nn.GroupNorm(gcd(_GROUPS, channels), channels)
    if norm == "SyncBN":
        # torch's own SyncBatchNorm refuses CPU tensors in a process group; the state dict is the
        # same.
        return NaiveSyncBatchNorm(channels)
    return get_norm(norm, channels)


def conv_norm_relu(
    channels_in: int, channels_out: int, norm: str, kernel: int = 3
) -> nn.Sequential:
    """Conv, norm, ReLU as modules 0, 1, 2; the conv has a bias only without a norm.

    Weights start from the uniform Kaiming distribution with a = 1, as AdelaiDet's mask branch.
    """
    made = make_norm(norm, channels_out)
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=made is None)
    init_kaiming(conv)
    return nn.Sequential(conv, *([] if made is None else [made]), nn.ReLU(inplace=True))


def init_kaiming(conv: nn.Conv2d) -> None:
    """Uniform Kaiming weights with a = 1, bias 0."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class ModulatedDeformConv(nn.Module):
    """3x3 deformable convolution (DCNv2); another convolution predicts its offsets and masks."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels_in, 27, 3, padding=1)  # 9 taps: y, x, mask
        self.conv = DeformConv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h, w)."""
        made = self.offset(x)
        return self.conv(x, made[:, :18], made[:, 18:].sigmoid())


class CellConv(nn.Module):
    """A 3x3 convolution with zero padding, computed only at chosen cells, for inference.

    Args:
        conv: the convolution.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.out_channels = conv.out_channels
        self.weight = nn.Parameter(_cell_weight(conv).detach().contiguous(), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Tensor, cells: Tensor) -> Tensor:
        """One map (C, h, w), (N,) cells counted row by row -> (N, C')."""
        return _at_cells(x[None], cells, self.weight, self.bias)


def conv_at_cells(conv: nn.Conv2d, x: Tensor, cells: Tensor) -> Tensor:
    """A 3x3 convolution with zero padding, only at chosen cells; differentiable in all inputs.

    Args:
        conv: the convolution.
        x: (B, C, h, w).
        cells: (N,) counted image by image, row by row; N may be 0.

    Returns:
        (N, C').
    """
    return _at_cells(x, cells, _cell_weight(conv), conv.bias)


def _cell_weight(conv: nn.Conv2d) -> Tensor:
    """(9 C, C'): taps row by row, each with its channels."""
    assert conv.kernel_size == (3, 3), conv
    assert (conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), 1), conv
    return conv.weight.permute(2, 3, 1, 0).flatten(0, 2)


def _at_cells(x: Tensor, cells: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    h, w = x.shape[-2:]
    lines = x.permute(0, 2, 3, 1).flatten(0, 2)  # (B h w, C)
    rows, columns = cells // w % h, cells % w
    taps = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, z = rows + dy, columns + dx
            inside = (y >= 0) & (y < h) & (z >= 0) & (z < w)
            # unlike indexing's, index_select's gradient adds up in a fixed order on a CPU
            tap = lines.index_select(0, torch.where(inside, cells + dy * w + dx, 0))  # (N, C)
            taps.append(tap * inside[:, None])
    made = torch.cat(taps, dim=1) @ weight
    return made if bias is None else made + bias


class PerLevelNorm(nn.ModuleList):
    """One norm per pyramid level: their batch statistics differ too much to be shared."""


class Tower(nn.Sequential):
    """Convolutions shared by all pyramid levels: conv, norm, ReLU, conv, ... in one flat sequence.

    Args:
        channels: width of input and output.
        num_convs: how many convolutions; 0 passes the input through.
        norm: a name for `make_norm`; batch norms get one module per level.
        num_levels: how many levels there are.
        deformable: whether the last convolution is deformable.
    """

    def __init__(
        self, channels: int, num_convs: int, norm: str, num_levels: int, deformable: bool = False
    ) -> None:
        modules: list[nn.Module] = []
        for i in range(num_convs):
            if deformable and i == num_convs - 1:
                modules.append(ModulatedDeformConv(channels, channels))
            else:
                modules.append(nn.Conv2d(channels, channels, 3, padding=1))
            if norm in ("BN", "SyncBN"):
                levels = [make_norm(norm, channels) for _ in range(num_levels)]
                modules.append(PerLevelNorm([n for n in levels if n is not None]))
            elif (made := make_norm(norm, channels)) is not None:
                modules.append(made)
            modules.append(nn.ReLU())
        super().__init__(*modules)

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """(B, C, h, w) of one level -> the same shape."""
        for module in self:
            x = module[level](x) if isinstance(module, PerLevelNorm) else module(x)
        return x


def init_normal(module: nn.Module, std: float = 0.01) -> None:
    """N(0, std) weights and zero bias for every convolution inside."""
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, DeformConv2d)):
            torch.nn.init.normal_(m.weight, std=std)
            if m.bias is not None:
                torch.nn.init.zeros_(m.bias)
