"""Order of the parameters that the controller predicts for one instance's mask head.

AdelaiDet lists all weights, then all biases, and feeds the coordinates before the mask features.
Epiphqny/CondInst goes layer by layer (weights, bias) and feeds the features before the coordinates.
Ours is AdelaiDet's order. For the paper's head that is 169 = (8 + 2) * 8 + 8 + 8 * 8 + 8 + 8 + 1.

Letters: ``C`` mask features, ``N`` parameters per instance.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from condinst.errors import UserError
from condinst.modeling.mask_head.layout import HeadLayout

_COORDS = 2
_SEARCH_WIDTHS = 64
_SEARCH_DEPTHS = 6


PAPER_HEAD = HeadLayout()


def epiphqny_rows(size: HeadLayout) -> Tensor:
    """Index of each of our rows in Epiphqny's order.

    Args:
        size: the head's size.

    Returns:
        (N,) int64 such that ``ours = epiphqny[rows]``; its ``argsort`` is the inverse.
    """
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    start = 0
    for i, (n_out, n_in) in enumerate(size.weight_shapes):
        weight = torch.arange(start, start + n_in * n_out).view(n_out, n_in)
        if i == 0:
            weight = weight.roll(size.coords, dims=1)  # features, x, y -> x, y, features
        weights.append(weight.flatten())
        start += n_in * n_out
        biases.append(torch.arange(start, start + n_out))
        start += n_out
    return torch.cat([*weights, *biases])


def infer_head_size(count: int, features: int) -> HeadLayout:
    """Find the head's size from the shapes in a checkpoint.

    Args:
        count: rows of the controller, ``N``.
        features: channels of the mask branch's output, ``C``.

    Returns:
        The only size that fits; if several do, the paper's width and depth if among them.

    Raises:
        UserError: no size fits, or several do and none is the paper's.
    """
    for coords in (_COORDS, 0):  # Epiphqny always has them
        sizes = [
            HeadLayout(features, coords, width, depth)
            for depth, width in product(range(1, _SEARCH_DEPTHS + 1), range(1, _SEARCH_WIDTHS + 1))
            if depth > 1 or width == PAPER_HEAD.width  # a single layer has no hidden width
        ]
        fitting = [size for size in sizes if size.num_params == count]
        usual = [s for s in fitting if (s.width, s.depth) == (PAPER_HEAD.width, PAPER_HEAD.depth)]
        if len(fitting) == 1 or usual:
            return (usual or fitting)[0]
        if fitting:
            break
    found = ", ".join(map(str, fitting)) or "none"
    raise UserError(
        f"cannot tell the mask head's size from {count} controller rows and {features} mask "
        f"features (fitting sizes: {found}): give the recipe of the weights (`--config-file`)"
    )
