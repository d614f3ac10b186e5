import pytest
import torch

from condinst.errors import UserError
from condinst.modeling.mask_head.layout import HeadLayout


def test_the_papers_head_needs_169_numbers() -> None:
    assert HeadLayout().num_params == 169


def test_weights_come_before_biases() -> None:
    layout = HeadLayout(features=1, coords=2, width=2, depth=2)
    weights, biases = layout.split(torch.arange(11.0)[None])
    assert weights[0].tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert weights[1].tolist() == [[[6, 7]]]
    assert [b.tolist() for b in biases] == [[[8, 9]], [[10]]]


def test_one_layer_goes_straight_to_the_logit() -> None:
    assert HeadLayout(features=8, coords=0, depth=1).num_params == 9


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"features": 0, "coords": 0}, "no input"), ({"depth": 0}, "NUM_LAYERS = 0")],
)
def test_impossible_sizes_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HeadLayout(**sizes)
