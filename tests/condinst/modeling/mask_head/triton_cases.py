"""The Triton kernels against the reference, on CPU in Triton's interpreter.

Run by `test_triton.py` in a process of its own: the interpreter must be chosen before triton is
imported.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from condinst.modeling.mask_head import trial
from condinst.modeling.mask_head.choice import ChosenBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.triton_backend import TritonBackend
from condinst.modeling.supervision.dice import Dice

H, W = 5, 7


class Case(NamedTuple):
    """What to compute."""

    images: tuple[int, ...] = (2, 0, 2)  # of each instance; image 1 of 3 has none
    layout: HeadLayout = HeadLayout(2, 2, 3, 3)
    coordinates: str = "relative"
    stride: int = 4
    upsampling: str = "aligned"
    dtype: torch.dtype = torch.float32


def make(case: Case, h: int = H, w: int = W) -> tuple[MaskHeadSpec, Tensor, MaskQuery]:
    torch.manual_seed(0)
    spec = MaskHeadSpec(
        case.layout, case.coordinates, (64.0, 128.0), 8, case.stride, case.stride,
        case.upsampling, Dice(),
    )  # fmt: skip
    count = len(case.images)
    features = torch.randn(3, case.layout.features, h, w).to(case.dtype).requires_grad_()
    params = torch.randn(count, case.layout.num_params).to(case.dtype).requires_grad_()
    locations = torch.rand(count, 2) * 8 * torch.tensor([w, h])
    images = torch.tensor(case.images, dtype=torch.long)
    return spec, features, MaskQuery(params, images, locations, torch.arange(count) % 2)


CASES = {
    "stride 8": Case(stride=8),
    "stride 4": Case(),
    "stride 2": Case(stride=2),
    "stride 1": Case(stride=1, images=(1,)),
    "plain upsampling": Case(upsampling="plain"),
    "absolute coordinates": Case(coordinates="absolute"),
    "no coordinates": Case(coordinates="none", layout=HeadLayout(3, 0, 3, 3)),
    "no features": Case(layout=HeadLayout(0, 2, 3, 2)),
    "one layer": Case(layout=HeadLayout(2, 2, 1, 1)),
    "the paper's network": Case(layout=HeadLayout(), images=(0, 0)),
    "float16": Case(dtype=torch.float16),
    "bfloat16": Case(dtype=torch.bfloat16),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_loss_and_every_gradient(case: Case) -> None:
    spec, features, query = make(case)
    f = spec.feature_stride // spec.out_stride
    masks = torch.rand(4, H * f, W * f) > 0.5
    targets = torch.arange(len(case.images)) * 3 % 4
    found = []
    for backend in (ReferenceBackend(), TritonBackend()):
        loss = backend.loss(spec, features, query, masks, targets)
        # not the plain sum, so that a wrong factor shows
        grads = torch.autograd.grad(loss * 3, (features, query.params), allow_unused=True)
        found.append([loss.detach(), *(x for x in grads if x is not None and x.numel())])
    assert [x.dtype for x in found[0]] == [x.dtype for x in found[1]]
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[case.dtype]
    for wanted, got in zip(*found, strict=True):
        scale = float(wanted.abs().max())
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance * scale)


def test_many_instances_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.modeling.mask_head import triton_networks

    case = Case(images=(2, 0, 2, 2, 0, 2, 2), layout=HeadLayout(1, 2, 2, 3), stride=8)
    spec, features, query = make(case)
    masks, targets = torch.rand(2, H, W) > 0.5, torch.arange(7) % 2
    wanted = ReferenceBackend().loss(spec, features, query, masks, targets)
    monkeypatch.setattr(triton_networks, "_CORNER_ELEMENTS", 4 * (H + 1) * (W + 1) * 3)
    got = TritonBackend().loss(spec, features, query, masks, targets)
    for a, b in zip(
        torch.autograd.grad(got, (features, query.params)),
        torch.autograd.grad(wanted, (features, query.params)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_maps_of_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.modeling.mask_head import triton_networks

    monkeypatch.setattr(triton_networks, "BLOCK", 16)
    monkeypatch.setattr(triton_networks, "_BACKWARD_BLOCK", 16)
    test_loss_and_every_gradient(Case(layout=HeadLayout(1, 2, 2, 2)))


def test_no_instance() -> None:
    spec, features, query = make(Case(images=()))
    masks, targets = (
        torch.zeros(0, 2 * H, 2 * W, dtype=torch.bool),
        torch.zeros(0, dtype=torch.long),
    )
    loss = TritonBackend().loss(spec, features, query, masks, targets)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert features.grad.abs().sum() == 0
    assert TritonBackend().masks(spec, features, query, (30, 40), (33, 21)).shape == (0, 33, 21)


@pytest.mark.parametrize("stride", [8, 4, 2, 1])
@pytest.mark.parametrize(
    ("upsampling", "output"), [("aligned", (40, 56)), ("aligned", (23, 31)), ("plain", (67, 90))]
)
def test_masks_but_for_pixels_at_the_threshold(
    stride: int, upsampling: str, output: tuple[int, int]
) -> None:
    spec, features, query = make(Case(images=(1, 1), stride=stride, upsampling=upsampling))
    image = (37, 51)  # of 40 x 56 padded pixels
    got = TritonBackend().masks(spec, features, query, image, output)
    wanted = ReferenceBackend().masks(spec, features, query, image, output)
    assert got.dtype == torch.bool
    assert wanted.any()
    assert not wanted.all()
    differing = (got != wanted).sum().item()
    assert differing <= 1e-4 * wanted.numel(), differing


@pytest.fixture
def quick_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of one block: the interpreter takes a second a block."""
    monkeypatch.setattr(trial, "SIZE", (5, 7))


@pytest.mark.usefixtures("quick_trial")
def test_it_passes_its_trial() -> None:
    spec, features, _ = make(Case(layout=HeadLayout(1, 2, 2, 2)))
    assert isinstance(ChosenBackend([TritonBackend()]).choose(spec, features), TritonBackend)


@pytest.mark.usefixtures("quick_trial")
def test_a_wrong_kernel_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.modeling.mask_head import triton_networks

    # The kernels are told a place that is half a cell off.
    monkeypatch.setattr(triton_networks, "shift", lambda spec, factor: 0.5)
    spec, features, _ = make(Case(layout=HeadLayout(1, 2, 2, 2)))
    assert isinstance(ChosenBackend([TritonBackend()]).choose(spec, features), ReferenceBackend)
