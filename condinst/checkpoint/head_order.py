"""Order of the numbers that the controller predicts for one instance's mask head.

AdelaiDet lists all weights, then all biases, and feeds the coordinates before the mask features.
Epiphqny/CondInst goes layer by layer (weights, bias) and feeds the features before the coordinates.
Ours is AdelaiDet's order. For the paper's head that is 169 = (8 + 2) * 8 + 8 + 8 * 8 + 8 + 8 + 1.

Letters: ``C`` mask features, ``N`` numbers an instance needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from condinst.errors import UserError

_COORDS = 2  # x and y
_SEARCH_WIDTHS = 64
_SEARCH_DEPTHS = 6


@dataclass(frozen=True)
class HeadSize:
    """Size of the dynamic mask head.

    Attributes:
        features: mask features entering the first layer, ``C``.
        width: channels of the hidden layers.
        depth: number of 1x1 convolutions.
        coords: whether x and y enter the first layer as well.
    """

    features: int = 8
    width: int = 8
    depth: int = 3
    coords: bool = True

    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every layer."""
        first = self.features + (_COORDS if self.coords else 0)
        widths = [first, *[self.width] * (self.depth - 1), 1]
        return list(zip(widths[:-1], widths[1:], strict=True))

    def count(self) -> int:
        """Numbers an instance needs, ``N``."""
        return sum(n_in * n_out + n_out for n_in, n_out in self.layers())


PAPER_HEAD = HeadSize()


def epiphqny_rows(size: HeadSize) -> Tensor:
    """Where each of our rows lies in Epiphqny's order.

    Args:
        size: the head's size.

    Returns:
        (N,) int64 such that ``ours = epiphqny[rows]``; ``argsort`` of it is the way back.
    """
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    start = 0
    for i, (n_in, n_out) in enumerate(size.layers()):
        weight = torch.arange(start, start + n_in * n_out).view(n_out, n_in)
        if i == 0 and size.coords:
            weight = weight.roll(_COORDS, dims=1)  # features, x, y -> x, y, features
        weights.append(weight.flatten())
        start += n_in * n_out
        biases.append(torch.arange(start, start + n_out))
        start += n_out
    return torch.cat([*weights, *biases])


def infer_head_size(count: int, features: int) -> HeadSize:
    """Find the head's size from the shapes in a checkpoint.

    Args:
        count: rows of the controller, ``N``.
        features: channels of the mask branch's output, ``C``.

    Returns:
        The only size that fits; of several, the paper's width and depth if it is among them.

    Raises:
        UserError: no size fits, or several do and none is the paper's.
    """
    sizes = [
        HeadSize(features, width, depth, coords)
        for coords, depth, width in product(
            (True, False), range(1, _SEARCH_DEPTHS + 1), range(1, _SEARCH_WIDTHS + 1)
        )
        if depth > 1 or width == PAPER_HEAD.width  # a single layer has no hidden width
    ]
    fitting = [size for size in sizes if size.count() == count]
    usual = [s for s in fitting if s.coords and (s.width, s.depth) == (8, 3)]
    if len(fitting) == 1 or usual:
        return (usual or fitting)[0]
    found = ", ".join(map(str, fitting)) or "none"
    raise UserError(
        f"cannot tell the mask head's size from {count} controller rows and {features} mask "
        f"features (fitting sizes: {found}): pass `head=HeadSize(...)`"
    )
