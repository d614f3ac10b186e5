from __future__ import annotations

import pytest
import torch
from torch import Tensor

from condinst.checkpoint.head_order import epiphqny_rows, infer_head_size
from condinst.errors import UserError
from condinst.modeling.mask_head.layout import HeadLayout


def test_order_worked_out_by_hand() -> None:
    # Epiphqny: layer 1 as f1 f2 x y (0..3), its bias (4), layer 2's weight (5) and bias (6).
    rows = epiphqny_rows(HeadLayout(features=2, coords=2, width=1, depth=2))
    assert rows.tolist() == [2, 3, 0, 1, 5, 4, 6]


def test_order_without_coordinates() -> None:
    rows = epiphqny_rows(HeadLayout(features=2, coords=0, width=1, depth=2))
    assert rows.tolist() == [0, 1, 3, 2, 4]


@pytest.mark.parametrize("coords", [0, 2])
@pytest.mark.parametrize("width", [2, 8])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_both_orders_give_the_same_network(coords: int, width: int, depth: int) -> None:
    size = HeadLayout(features=5, coords=coords, width=width, depth=depth)
    theirs = torch.randn(size.num_params, generator=torch.Generator().manual_seed(0))
    ours = theirs[epiphqny_rows(size)]
    features, places = torch.randn(5), torch.randn(coords)
    torch.testing.assert_close(
        _apply(torch.cat([places, features]), *size.split(ours[None])),
        _apply_epiphqny(torch.cat([features, places]), theirs, size),
    )


def _apply(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = weight[0] @ x + bias[0]
        x = x if i == len(weights) - 1 else x.relu()
    return x


def _apply_epiphqny(x: Tensor, numbers: Tensor, size: HeadLayout) -> Tensor:
    for i, (n_out, n_in) in enumerate(size.weight_shapes):
        weight, bias, numbers = numbers.split(
            [n_out * n_in, n_out, len(numbers) - n_out * n_in - n_out]
        )
        x = weight.view(n_out, n_in) @ x + bias
        x = x if i == size.depth - 1 else x.relu()
    return x


def test_size_of_the_paper() -> None:
    assert infer_head_size(169, 8) == HeadLayout(features=8, coords=2, width=8, depth=3)


@pytest.mark.parametrize("size", [HeadLayout(4, 2, 6, 3), HeadLayout(8, 2, 8, 1)])
def test_size_from_shapes(size: HeadLayout) -> None:
    assert infer_head_size(size.num_params, size.features) == size


def test_size_that_shapes_cannot_tell() -> None:
    with pytest.raises(UserError, match="170 controller rows and 8 mask features"):
        infer_head_size(170, 8)
