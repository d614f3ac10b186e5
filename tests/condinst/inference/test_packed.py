from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from condinst.inference.packed import PackedConv, refusal

here = refusal(torch.float32)


def broken(*_: Any) -> Any:
    raise RuntimeError("could not create a primitive\nand more of its words")


@pytest.mark.skipif(here is not None, reason=f"no packed convolutions: {here}")
@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_it_is_the_convolution(settings: dict[str, int]) -> None:
    conv = nn.Conv2d(8, 6, 3, padding=1, **settings).requires_grad_(False)
    packed = PackedConv(conv, relu=True)
    for size in ((5, 7), (9, 4)):  # weights are packed again for each
        for images in (2, 0):
            x = torch.randn(images, 8, *size)
            wanted = conv(x)
            added = torch.randn_like(wanted)
            torch.testing.assert_close(packed(x), wanted.relu(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(
                packed(x, added), (wanted + added).relu(), rtol=1e-4, atol=1e-5
            )


def test_a_torch_without_the_operators_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", raising=False)
    assert "mkldnn_reorder_conv2d_weight" in str(refusal(torch.float32))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert refusal(torch.float32) == "this torch was built without oneDNN"


def test_an_operator_that_raises_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", broken, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert refusal(torch.float32) == "could not create a primitive"


def test_an_operator_that_computes_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(x: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.zeros_like(x)

    other.binary = other  # type: ignore[attr-defined]
    monkeypatch.setattr(PackedConv, "_weight", lambda *_: None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_convolution_pointwise=other))
    assert "is wrong here" in str(refusal(torch.float32))


def test_the_question_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    refusal(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
