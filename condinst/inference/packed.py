"""Convolutions with weights packed for oneDNN by private operators of torch, where they work.

Letters: ``B`` images, ``C`` channels, ``h, w`` size of a map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CLOSE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest result


_SHAPE = ("kernel_size", "stride", "padding", "dilation", "groups", "in_channels", "out_channels")


def answer_for(made: Any, conv: nn.Conv2d) -> None:
    """Give a convolution's stand-in the attributes that some networks read from convolutions."""
    for name in _SHAPE:
        setattr(made, name, getattr(conv, name))
    made.weight = conv.weight.detach()


class PackedConv(nn.Module):
    """A convolution with weights in oneDNN's layout; optionally adds a map, then a ReLU.

    Args:
        conv: with zero padding.
        relu: whether a ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.settings: Any = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.weight: Tensor
        answer_for(self, conv)
        self.packed: tuple[torch.Size, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Omit the packed weights, which cannot be copied or saved; the next call packs again."""
        return {**self.__dict__, "packed": None}

    def _weight(self, size: torch.Size) -> Tensor:
        """The weights packed for a map size; oneDNN is slow with weights packed for another."""
        packed = self.packed
        if packed is None or packed[0] != size:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            packed = (size, reorder(self.weight.to_mkldnn(), *self.settings, list(size)))
            self.packed = packed
        return packed[1]

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, C, h, w), and what is added to the result -> (B, C', h', w')."""
        after, weight = "relu" if self.relu else None, self._weight(x.shape)
        ops = torch.ops.mkldnn
        if added is None:
            return ops._convolution_pointwise(
                x, weight, self.bias, *self.settings, after or "none", [], ""
            )
        return ops._convolution_pointwise.binary(
            x, added, weight, self.bias, *self.settings, "add", 1.0, after, [], None
        )


@torch.no_grad()
def refusal(dtype: torch.dtype) -> str | None:
    """Why `PackedConv` cannot be used on this CPU in a precision; None if it can.

    This torch may lack the operators, and they may need instructions that the CPU lacks, so a small
    case is computed both ways.
    """
    if not torch.backends.mkldnn.is_available():
        return "this torch was built without oneDNN"
    if dtype not in _CLOSE:
        return f"oneDNN has no convolutions in {dtype}"
    conv: Any = nn.utils.skip_init(nn.Conv2d, 16, 16, 3, padding=1)  # draws no random numbers
    for x in conv.parameters():
        x.copy_(torch.arange(x.numel()).view_as(x).sin())
    maps = torch.arange(16 * 49).view(1, 16, 7, 7).cos()
    wanted = (conv(maps) + maps).relu()
    try:
        packed = PackedConv(conv.to(dtype), relu=True)
        maps = maps.to(dtype, memory_format=torch.channels_last)
        found, alone = packed(maps, maps).float(), packed(maps).float()
    except (AttributeError, RuntimeError, TypeError) as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    error = max(
        (found - wanted).abs().max(), (alone - conv.float()(maps.float()).relu()).abs().max()
    )
    if not error <= _CLOSE[dtype] * wanted.max():
        return f"oneDNN's packed convolution is wrong here by {error:.1e} of {wanted.max():.1e}"
    return None
