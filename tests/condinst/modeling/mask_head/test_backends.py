"""Every fast mask head against the reference: losses, every gradient, masks, runs."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from pycocotools import mask as rle_tools
from torch import Tensor

from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.choice import BACKENDS, get_backend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.numba_backend import NumbaBackend
from condinst.modeling.mask_head.reference import ReferenceBackend, mask_logits
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.dice import Dice

PAPER = MaskHeadSpec(
    layout=HeadLayout(),
    coordinates="relative",
    sizes_of_interest=(64.0, 100.0),
    feature_stride=8,
    out_stride=4,
    inference_stride=4,
    upsampling="aligned",
    dice=Dice(),
)
OTHER = dataclasses.replace(  # Epiphqny's ways, and another network
    PAPER,
    layout=HeadLayout(5, 2, 6, 4),
    coordinates="absolute",
    inference_stride=1,
    dice=Dice(1, 1),
)
SHALLOW = dataclasses.replace(
    PAPER, layout=HeadLayout(3, 0, 8, 1), coordinates="none", upsampling="plain", inference_stride=8
)
WIDE = dataclasses.replace(PAPER, layout=HeadLayout(0, 2, 16, 2), inference_stride=2)
SPECS = {"paper": PAPER, "other": OTHER, "shallow": SHALLOW, "wide": WIDE}
FAST = (NumbaBackend(),)


@pytest.fixture(params=FAST, ids=lambda x: x.name)
def fast(request: pytest.FixtureRequest) -> MaskBackend:
    return request.param


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> MaskHeadSpec:
    return SPECS[request.param]


def make(
    spec: MaskHeadSpec, count: int, size: tuple[int, int] = (7, 11), images: int = 3
) -> tuple[Tensor, MaskQuery]:
    """Double-precision features and instances of the first and the last image alone."""
    torch.manual_seed(count)
    features = torch.randn(images, spec.layout.features, *size).double()
    query = MaskQuery(
        torch.randn(count, spec.layout.num_params).double() * 0.7,
        torch.arange(count) % 2 * (images - 1),
        torch.rand(count, 2).double() * 80,
        torch.arange(count) % 2,
    )
    return features, query


def loss_and_gradients(
    backend: MaskBackend, spec: MaskHeadSpec, count: int, size: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    features, query = make(spec, count, size)
    masks = torch.rand(4, *(n * 8 // spec.out_stride for n in size)) > 0.6
    masks[1] = False
    features = features.to(dtype).requires_grad_()
    params = query.params.to(dtype).requires_grad_()
    query = query._replace(params=params, locations=query.locations.to(dtype))
    loss = backend.loss(spec, features, query, masks, torch.arange(count) % 4)
    return (loss, *torch.autograd.grad(3 * loss, (params, features)))


@pytest.mark.parametrize("count", [0, 1, 13])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_losses_and_gradients(
    fast: MaskBackend, spec: MaskHeadSpec, stride: int, count: int
) -> None:
    spec = dataclasses.replace(spec, out_stride=stride)
    sizes = [(7, 11)] if stride == 1 else [(7, 11), (1, 1), (2, 9), (25, 23)]
    for size in sizes:
        wanted = loss_and_gradients(ReferenceBackend(), spec, count, size, torch.float64)
        for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
            found = loss_and_gradients(fast, spec, count, size, dtype)
            for a, b in zip(found, wanted, strict=True):
                assert a.dtype == dtype
                scale = b.abs().max().item() if b.numel() else 0
                torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance * scale)
            if count:
                assert found[2][1].abs().sum() == 0  # the image without instances


def test_extreme_logits_are_finite(fast: MaskBackend) -> None:
    for factor in (30.0, 3000.0):
        features, query = make(PAPER, 5)
        features, params = features.float().requires_grad_(), (query.params * factor).float()
        query = query._replace(params=params.requires_grad_(), locations=query.locations.float())
        masks = torch.rand(5, 14, 22) > 0.5
        loss = fast.loss(PAPER, features, query, masks, torch.arange(5))
        made = torch.autograd.grad(loss, (params, features))
        assert all(x.isfinite().all() for x in (loss, *made))
        wanted = ReferenceBackend().loss(PAPER, features, query, masks, torch.arange(5))
        torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)


def test_half_precision_is_computed_in_single(fast: MaskBackend) -> None:
    features, query = make(PAPER, 3)
    half = features.bfloat16().requires_grad_()
    params = query.params.bfloat16().requires_grad_()
    query = query._replace(params=params, locations=query.locations.float())
    masks = torch.rand(3, 14, 22) > 0.5
    results = []
    for backend in (fast, ReferenceBackend()):
        loss = backend.loss(PAPER, half, query, masks, torch.arange(3))
        results.append((loss, *torch.autograd.grad(loss, (half, params))))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2e-2, atol=1e-4)


def test_without_gradients_the_loss_is_the_same(fast: MaskBackend) -> None:
    features, query = make(PAPER, 6)
    masks = torch.rand(6, 14, 22) > 0.5
    with torch.no_grad():
        plain = fast.loss(PAPER, features, query, masks, torch.arange(6))
    tracked = fast.loss(PAPER, features.requires_grad_(), query, masks, torch.arange(6))
    assert plain == tracked
    assert not plain.requires_grad


def test_threads_share_the_instances_and_change_nothing(fast: MaskBackend) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(loss_and_gradients(fast, PAPER, 13, (7, 11), torch.float64))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def probabilities(
    spec: MaskHeadSpec,
    features: Tensor,
    query: MaskQuery,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """The reference's final probabilities, before its threshold."""
    from torch.nn import functional as F

    from condinst.layers.upsampling import aligned_bilinear, get_upsampling

    logits = mask_logits(spec, features, query)[:, None]
    upsample = get_upsampling(spec.upsampling)
    probs = upsample(logits, spec.feature_stride // spec.inference_stride).sigmoid()
    probs = aligned_bilinear(probs, spec.inference_stride)[:, :, : image_size[0], : image_size[1]]
    return F.interpolate(probs, size=output_size, mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize(
    ("size", "image_size", "output_size"),
    [
        ((7, 11), (50, 81), (50, 81)),
        ((7, 11), (56, 88), (31, 47)),
        ((7, 11), (53, 77), (160, 95)),
        ((1, 1), (8, 8), (5, 6)),
        ((1, 2), (3, 9), (7, 30)),
        ((25, 23), (1, 1), (4, 4)),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 9])
def test_masks_and_runs(
    fast: MaskBackend,
    spec: MaskHeadSpec,
    count: int,
    size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> None:
    features, query = make(spec, count, size)
    query = query._replace(images=torch.full((count,), 2))
    wanted = probabilities(spec, features, query, image_size, output_size)
    for dtype, margin in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        given = query._replace(params=query.params.to(dtype), locations=query.locations.to(dtype))
        arguments = (spec, features.to(dtype), given, image_size, output_size)
        masks = fast.masks(*arguments)
        assert masks.shape == (count, *output_size)
        assert masks.dtype == torch.bool
        clear = (wanted - 0.5).abs() > margin
        assert torch.equal(masks[clear], (wanted > 0.5)[clear])
        runs = fast.rles(*arguments)
        assert len(runs) == count
        for rle, mask, sure in zip(runs, masks, clear, strict=True):
            assert rle["size"] == list(output_size)
            decoded = torch.from_numpy(rle_tools.decode(rle)).bool()
            assert torch.equal(decoded[sure], mask[sure])
            assert rle_tools.encode(rle_tools.decode(rle))["counts"] == rle["counts"]


def test_full_and_empty_masks(fast: MaskBackend) -> None:
    spec = dataclasses.replace(PAPER, layout=HeadLayout(1, 0, 1, 1), coordinates="none")
    features = torch.ones(1, 1, 4, 5)
    query = MaskQuery(
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]]),
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, 2),
        torch.zeros(2, dtype=torch.long),
    )
    masks = fast.masks(spec, features, query, (30, 40), (17, 23))
    assert masks[0].all()
    assert not masks[1].any()
    areas = [rle_tools.area(x) for x in fast.rles(spec, features, query, (30, 40), (17, 23))]
    assert areas == [17 * 23, 0]


def test_the_log_names_the_backend_once(caplog: pytest.LogCaptureFixture) -> None:
    features, query = make(PAPER, 1)
    for name, used in (("auto", "numba"), ("reference", "reference")):
        backend = get_backend(name)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                backend.masks(PAPER, features, query, (50, 80), (50, 80))
        assert caplog.messages == [f"Mask heads: backend {used}"]


class Focal(Dice):
    """A subclass with a formula of its own."""

    def __call__(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        missed = torch.where(targets, 1 - probabilities, probabilities)
        return (missed**2).mean((1, 2))


class Mean:
    """A loss that shares nothing with dice."""

    def __call__(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        return probabilities.mean((1, 2))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("loss", [Focal(), Mean()], ids=["Focal", "Mean"])
def test_a_loss_unknown_to_a_backend_is_the_references(
    name: str, loss: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # for `triton` the device is then no obstacle
    spec = dataclasses.replace(PAPER, dice=loss)
    wanted = loss_and_gradients(ReferenceBackend(), spec, 3, (7, 11), torch.float32)
    with caplog.at_level(logging.INFO):
        found = loss_and_gradients(get_backend(name), spec, 3, (7, 11), torch.float32)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)
    dice = loss_and_gradients(ReferenceBackend(), PAPER, 3, (7, 11), torch.float32)
    assert not any(torch.allclose(a, b) for a, b in zip(found, dice, strict=True))
    fast = {"auto": ["numba"], "reference": []}.get(name, [name])
    assert caplog.messages == [
        *(
            f"Mask heads: backend {x} is not used: it knows no loss {type(loss).__name__}"
            for x in fast
        ),
        "Mask heads: backend reference",
    ]


def test_focal_by_hand() -> None:
    p, t = torch.tensor([[[0.5, 0.8]]]), torch.tensor([[[True, False]]])
    assert Focal()(p, t).item() == pytest.approx((0.25 + 0.64) / 2)


def test_numba_does_not_run_on_a_gpu() -> None:
    reason = NumbaBackend().unsupported(PAPER, torch.device("cuda"))
    assert reason == "it runs on the CPU, not on cuda"
