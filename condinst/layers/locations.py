"""Locations of a feature map's cells in the image."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_locations(h: int, w: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """Pixel positions of a map's cells: (x s + s // 2, y s + s // 2).

    Returns:
        (h w, 2) float32, x then y, row by row.
    """
    xs = torch.arange(w, device=device, dtype=torch.float32) * stride + stride // 2
    ys = torch.arange(h, device=device, dtype=torch.float32) * stride + stride // 2
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), dim=1)


def unit_coordinates(h: int, w: int, device: torch.device | str = "cpu") -> Tensor:
    """Columns and rows scaled to [-1, 1] over the map: (2, h w), x then y."""
    xs = torch.linspace(-1, 1, w, device=device)
    ys = torch.linspace(-1, 1, h, device=device)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()))
