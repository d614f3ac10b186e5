"""3 x 3 convolutions on a CPU: 36 multiplications for 16 results instead of 144; inference only.

Winograd's F(4 x 4, 3 x 3) of https://arxiv.org/abs/1509.09308: tiles of cells become 36 points, the
convolution is a matrix product at each point, and points become cells again. It pays off with many
channels, when the transforms cost little compared with the products.

Letters: ``B`` images, ``C`` channels, ``h, w`` size of a map, ``T`` tiles of a chunk.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LEAST_CHANNELS = 256  # below this, the transforms cost what the products save
_CHUNK = 128  # tiles that a thread transforms at a time: at 256 channels 5 MB of points
_KERNEL_TO_POINTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def suits(conv: nn.Conv2d, least: int = _LEAST_CHANNELS) -> bool:
    """Whether `WinogradConv` can compute a convolution, and is worth it."""
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    channels = (conv.in_channels, conv.out_channels)
    plain = settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.padding_mode == "zeros"
    kept = conv.weight.dtype == torch.float32 and conv.weight.device.type == "cpu"
    return plain and kept and min(channels) >= least and all(n % 64 == 0 for n in channels)


class WinogradConv(nn.Module):
    """A convolution that `suits`; optionally adds a map, then a ReLU. No gradients.

    Args:
        conv: the convolution.
        relu: whether a ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        assert suits(conv, least=64), conv
        self.relu = relu
        into = torch.tensor(_KERNEL_TO_POINTS, dtype=torch.float64)
        weight = torch.einsum("ai,bj,ocij->abco", into, into, conv.weight.detach().double())
        self.points = weight.flatten(0, 1).float().contiguous()  # (36, C, C')
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.bias = bias.float().numpy()

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, C, h, w), and what is added to the result -> (B, C', h, w), channels last."""
        cells = x.permute(0, 2, 3, 1).contiguous()
        out = cells.new_empty(*cells.shape[:3], self.points.shape[2])
        if added is None:
            others = np.empty((len(cells), 0, 0, 0), np.float32)
        else:
            others = added.permute(0, 2, 3, 1).contiguous().numpy()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for image, other, made in zip(cells.numpy(), others, out.numpy(), strict=True):
                self._convolve(pool, image, other, made)
        return out.permute(0, 3, 1, 2)

    def _convolve(
        self, pool: ThreadPoolExecutor, x: np.ndarray, added: np.ndarray, out: np.ndarray
    ) -> None:
        """One image: (h, w, C) to (h, w, C')."""
        height, width, channels = x.shape
        tiles, threads = -(-height // 4) * -(-width // 4), torch.get_num_threads()
        for first in range(0, tiles, _CHUNK * threads):
            count = min(_CHUNK * threads, tiles - first)
            ends = np.linspace(0, count, threads + 1).astype(np.int64)
            parts = [ends[i : i + 2] for i in range(threads)]
            given = torch.empty(36, count, channels)
            into = partial(_into_points, x, first, given.numpy())
            list(pool.map(into, parts))
            points = torch.bmm(given, self.points).numpy()
            back = partial(_from_points, points, first, (self.bias, added, self.relu, out))
            list(pool.map(back, parts))


def _into_points(x: np.ndarray, first: int, out: np.ndarray, span: np.ndarray) -> None:
    from condinst.inference import (
        winograd_kernels,
    )  # takes a second to import: only where it is used

    winograd_kernels.into_points(x, first, span, out)


def _from_points(points: np.ndarray, first: int, others: tuple[Any, ...], span: np.ndarray) -> None:
    from condinst.inference import winograd_kernels

    winograd_kernels.from_points(points, first, span, *others)
