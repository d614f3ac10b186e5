import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condinst.errors import UserError
from condinst.layers.upsampling import aligned_bilinear, get_upsampling, plain_bilinear


def by_definition(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Output i reads source position max(i - f // 2, 0) / f, clamped below the last cell."""
    for dim in (2, 3):
        n = x.shape[dim]
        position = (torch.arange(factor * n) - factor // 2).clamp(min=0) / factor
        low = position.floor().long()
        shape = [1, 1, 1, 1]
        shape[dim] = -1
        part = (position - low).view(shape)
        high = (low + 1).clamp(max=n - 1)
        x = x.index_select(dim, low) * (1 - part) + x.index_select(dim, high) * part
    return x


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 3, 4, 8]))
def test_aligned_upsampling_is_its_definition(h: int, w: int, factor: int) -> None:
    x = torch.randn(2, 3, h, w)
    torch.testing.assert_close(aligned_bilinear(x, factor), by_definition(x, factor))


def test_aligned_upsampling_by_hand() -> None:
    x = torch.tensor([[[[0.0, 4.0]]]])
    out = aligned_bilinear(x, 4)
    assert out.shape == (1, 1, 4, 8)
    assert out[0, 0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4]


def test_aligned_upsampling_keeps_cells_on_their_pixels() -> None:
    x = torch.randn(1, 1, 6, 7)
    out = aligned_bilinear(x, 8)
    assert torch.allclose(out[:, :, 4::8, 4::8], x, atol=1e-6)


def test_plain_upsampling_is_centred_on_half_pixels() -> None:
    out = plain_bilinear(torch.tensor([[[[0.0, 4.0]]]]), 2)
    assert out[0, 0, 0].tolist() == [0, 1, 3, 4]


def test_unknown_upsampling_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="UPSAMPLING = 'cubic': use one of aligned, plain"):
        get_upsampling("cubic")
