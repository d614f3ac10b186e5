import pytest
import torch
from torch import nn

from condinst.layers.conv import PerLevelNorm, Tower, conv_at_cells, conv_norm_relu, make_norm


@pytest.mark.parametrize("name", ["", "none"])
def test_no_norm_gives_the_convolution_a_bias(name: str) -> None:
    assert make_norm(name, 8) is None
    block = conv_norm_relu(4, 8, name)
    assert len(block) == 2
    assert block[0].bias is not None


def test_group_norm_takes_the_most_groups_that_fit() -> None:
    for channels, groups in ((256, 32), (48, 16), (6, 2)):
        norm = make_norm("GN", channels)
        assert isinstance(norm, nn.GroupNorm)
        assert norm.num_groups == groups


def test_naive_group_norm_is_group_norm() -> None:
    x = torch.randn(2, 64, 3, 5)
    torch.testing.assert_close(make_norm("NaiveGN", 64)(x), make_norm("GN", 64)(x))


@pytest.mark.parametrize("name", ["BN", "SyncBN"])
def test_batch_norms_keep_their_own_statistics_a_level(name: str) -> None:
    tower = Tower(4, 1, name, num_levels=2)
    assert isinstance(tower[1], PerLevelNorm)
    tower(torch.randn(2, 4, 5, 5) + 3, level=1)
    assert tower[1][0].num_batches_tracked == 0
    assert tower[1][1].num_batches_tracked == 1


def test_a_tower_without_convolutions_passes_its_input_through() -> None:
    x = torch.randn(1, 4, 2, 2)
    assert Tower(4, 0, "GN", 1)(x) is x


def test_the_last_convolution_may_be_deformable() -> None:
    tower = Tower(4, 2, "GN", 1, deformable=True)
    assert {n.split(".")[1] for n in tower.state_dict() if n.startswith("3")} == {"offset", "conv"}
    assert tower(torch.randn(1, 4, 6, 6)).shape == (1, 4, 6, 6)


def test_a_deformable_convolution_without_offsets_is_half_a_convolution() -> None:
    deform = Tower(4, 1, "none", 1, deformable=True)[0]
    for p in deform.offset.parameters():
        nn.init.zeros_(p)  # offsets 0, masks sigmoid(0) = 1 / 2
    nn.init.zeros_(deform.conv.bias)
    x = torch.randn(1, 4, 6, 6)
    expected = nn.functional.conv2d(x, deform.conv.weight, padding=1) / 2
    torch.testing.assert_close(deform(x), expected)


def test_convolution_at_cells_and_its_gradients() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 3, padding=1).double()
    for h, w in ((4, 6), (1, 3), (1, 1)):
        x = torch.randn(2, 5, h, w, dtype=torch.float64, requires_grad=True)
        for cells in (torch.arange(2 * h * w), torch.tensor([0, 2 * h * w - 1]), torch.arange(0)):
            slope = torch.randn(len(cells), 7, dtype=torch.float64)
            found = conv_at_cells(conv, x, cells)
            wanted = conv(x).permute(0, 2, 3, 1).flatten(0, 2)[cells]
            torch.testing.assert_close(found, wanted)
            given = (x, conv.weight, conv.bias)
            found, wanted = (torch.autograd.grad(y, given, slope) for y in (found, wanted))
            torch.testing.assert_close(found, wanted)
