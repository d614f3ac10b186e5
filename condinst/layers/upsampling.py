"""Upsampling of maps whose cell (0, 0) is centred on pixel stride // 2.

Letters: ``N`` maps, ``C`` channels, ``h, w`` their size, ``f`` the factor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from condinst.errors import UserError

Upsample = Callable[[Tensor, int], Tensor]


def aligned_bilinear(x: Tensor, factor: int) -> Tensor:
    """Upsample so that the locations of both grids fall on the same pixels.

    Output cell i reads source position ``max(i - f // 2, 0) / f``, clamped below the last cell
    (CondInst's public code; PyTorch's own two modes both shift the grid).

    Args:
        x: (N, C, h, w).
        factor: f >= 1.

    Returns:
        (N, C, f h, f w).
    """
    assert x.dim() == 4, x.shape
    assert factor >= 1, factor
    if factor == 1:
        return x
    h, w = x.shape[-2:]
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    size = (factor * h + 1, factor * w + 1)
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    x = F.pad(x, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return x[:, :, : factor * h, : factor * w]


def plain_bilinear(x: Tensor, factor: int) -> Tensor:
    """PyTorch's bilinear upsampling, (N, C, h, w) -> (N, C, f h, f w); half-pixel centres."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


UPSAMPLINGS: dict[str, Upsample] = {"aligned": aligned_bilinear, "plain": plain_bilinear}


def get_upsampling(name: str) -> Upsample:
    """The upsampling with that name.

    Raises:
        UserError: there is none.
    """
    if name not in UPSAMPLINGS:
        allowed = ", ".join(UPSAMPLINGS)
        raise UserError(f"MODEL.CONDINST.UPSAMPLING = {name!r}: use one of {allowed}")
    return UPSAMPLINGS[name]
