"""The cells around each cell of a map.

Letters: ``H, W`` size of the map, ``J`` neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def neighbour_offsets(size: int, dilation: int) -> list[tuple[int, int]]:
    """The size x size pattern without its middle: J = size^2 - 1 pairs (rows down, columns right).

    Args:
        size: odd, at least 3.
        dilation: cells between two neighbours of the pattern.
    """
    assert size % 2 == 1, size
    steps = [(i - size // 2) * dilation for i in range(size)]
    return [(dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0)]


def neighbours(x: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """The value at each offset from each cell; 0 beyond the map.

    Args:
        x: (..., H, W).
        offsets: J of them.

    Returns:
        (..., J, H, W).
    """
    h, w = x.shape[-2:]
    far = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    wide = F.pad(x, (far, far, far, far))
    parts = [wide[..., far + dy : far + dy + h, far + dx : far + dx + w] for dy, dx in offsets]
    return torch.stack(parts, dim=-3)
