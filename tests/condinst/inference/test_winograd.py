from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condinst.inference.winograd import WinogradConv, suits


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7), (3, 33), (50, 46)])
def test_it_is_the_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 128, 3, padding=1).requires_grad_(False)
    x, added = torch.randn(2, 64, *size), torch.randn(2, 128, *size)
    wanted = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)  # type: ignore[union-attr]
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            plain, summed = WinogradConv(conv)(x), WinogradConv(conv, relu=True)(x, added)
            torch.testing.assert_close(plain.double(), wanted, rtol=1e-5, atol=2e-5)
            both = (wanted + added).relu()
            torch.testing.assert_close(summed.double(), both, rtol=1e-5, atol=2e-5)
    finally:
        torch.set_num_threads(before)
    assert plain.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_no_images_and_no_bias() -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).requires_grad_(False)
    assert WinogradConv(conv)(torch.zeros(0, 64, 5, 5)).shape == (0, 64, 5, 5)
    x = torch.randn(1, 64, 6, 6)
    torch.testing.assert_close(WinogradConv(conv)(x), conv(x), rtol=1e-4, atol=1e-5)


def test_what_suits() -> None:
    wide = nn.Conv2d(256, 256, 3, padding=1)
    assert suits(wide)
    for other in (
        nn.Conv2d(128, 256, 3, padding=1),  # few channels
        nn.Conv2d(256, 260, 3, padding=1),  # not in whole blocks
        nn.Conv2d(256, 256, 3, padding=1, stride=2),
        nn.Conv2d(256, 256, 3, padding=2, dilation=2),
        nn.Conv2d(256, 256, 3),
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
        nn.Conv2d(256, 256, 1),
        nn.Conv2d(256, 256, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(256, 256, 3, padding=1).bfloat16(),
    ):
        assert not suits(other), other
