"""The Triton kernels of BoxInst's losses against the reference, on CPU in Triton's interpreter.

Run by `test_triton.py`, as `triton_cases.py` is.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from condinst.modeling.mask_head import trial, triton_networks
from condinst.modeling.mask_head.choice import ChosenBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.triton_backend import TritonBackend
from tests.condinst.modeling.mask_head.box_cases import BoxCase, losses_and_gradients, make

SMALL = HeadLayout(2, 2, 3, 2)  # the interpreter takes its time
CASES = {
    "stride 4": BoxCase(3, (4, 5), 2, layout=SMALL),
    "stride 8": BoxCase(4, (5, 7), 3, 8, layout=SMALL),
    "stride 2, wide pattern": BoxCase(1, (3, 4), 1, 2, 5, 1, layout=SMALL),
    "stride 1, far neighbours": BoxCase(1, (2, 3), 1, 1, 3, 5, layout=SMALL),
    "beyond the map": BoxCase(3, (3, 4), 1, 8, 5, 3, layout=SMALL),
    "all alike, those beyond the map too": BoxCase(4, (3, 5), 2, alike=1.0, layout=SMALL),
    "none alike": BoxCase(2, (3, 5), 1, alike=0.0, layout=SMALL),
    "no pairs": BoxCase(3, (3, 5), 1, pairs=False, layout=SMALL),
    "plain upsampling": BoxCase(3, (3, 5), 2, upsampling="plain", layout=SMALL),
    "confident": BoxCase(3, (3, 5), 2, scale=20.0, layout=SMALL),
    "the paper's network": BoxCase(2, (3, 4), 1),
    "none": BoxCase(0, (3, 5), 1, layout=SMALL),
}


def assert_equal(case: BoxCase, dtype: torch.dtype, weights: tuple[float, float]) -> None:
    wanted = losses_and_gradients(ReferenceBackend(), case, dtype, weights)
    found = losses_and_gradients(TritonBackend(), case, dtype, weights)
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        scale = float(b.abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_losses_and_every_gradient(case: BoxCase) -> None:
    assert_equal(case, torch.float32, (0.7, 0.02))


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)], ids=["not warm", "pairs alone"])
def test_one_of_the_two(weights: tuple[float, float]) -> None:
    assert_equal(CASES["stride 8"], torch.float32, weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    assert_equal(CASES["stride 8"], dtype, (0.7, 0.02))


def test_several_blocks_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_networks, "BLOCK", 16)
    monkeypatch.setattr(triton_networks, "_BACKWARD_BLOCK", 16)
    monkeypatch.setattr(triton_networks, "_CORNER_ELEMENTS", 4 * 4 * 6 * 2)
    assert_equal(BoxCase(5, (3, 5), 2, 8, layout=SMALL), torch.float32, (0.7, 0.02))


def test_beside_dice() -> None:
    """Some instances have a mask, the others a box; each loss has its weight."""
    case, found = CASES["stride 8"], []
    for backend in (ReferenceBackend(), TritonBackend()):
        spec, features, query, truth = make(case, torch.float32)
        features.requires_grad_()
        params = query.params.requires_grad_()
        drawn = type(query)(*(x[:1] for x in query))
        boxed = type(query)(*(x[1:] for x in query))
        masks = torch.arange(2 * 35).view(2, 5, 7) % 3 == 0
        dice = backend.loss(spec, features, drawn, masks, torch.tensor([1]))
        truth = truth._replace(targets=truth.targets[1:])
        projection, pairwise = backend.box_losses(spec, features, boxed, truth)
        total = 2 * dice * 0.25 + projection / 4 * 0.5 + 0.003 * pairwise
        found.append((total.detach(), *torch.autograd.grad(total, (features, params))))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5 * float(a.abs().max()))


def test_a_logit_that_is_no_number_shows() -> None:
    spec, features, query, truth = make(CASES["no pairs"], torch.float32)
    features[0, :, 1, 2] = float("nan")
    projection, _ = TritonBackend().box_losses(spec, features, query, truth)
    assert projection.isnan()


def test_it_passes_its_trial_and_a_wrong_kernel_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SIZE", (3, 4))  # the interpreter takes a second a block
    spec, features, *_ = make(CASES["plain upsampling"], torch.float32)
    spec = dataclasses.replace(spec, out_stride=8, inference_stride=8, upsampling="aligned")
    chosen = ChosenBackend([TritonBackend()])
    assert isinstance(chosen.choose(spec, features, "boxes"), TritonBackend)
    monkeypatch.setattr(triton_networks, "shift", lambda spec, factor: 0.5)
    wrong = dataclasses.replace(spec, out_stride=4, inference_stride=4)
    assert isinstance(chosen.choose(wrong, features, "boxes"), ReferenceBackend)
