"""A backend on trial is used where it agrees with the reference, and nowhere else."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from condinst.modeling.mask_head import choice
from condinst.modeling.mask_head.choice import ChosenBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.trial import box_differences, differences, tolerance
from condinst.modeling.supervision.dice import Dice

CPU = torch.device("cpu")
SPEC = MaskHeadSpec(
    layout=HeadLayout(3, 2, 4, 2),
    coordinates="relative",
    sizes_of_interest=(64.0, 128.0),
    feature_stride=8,
    out_stride=4,
    inference_stride=4,
    upsampling="aligned",
    dice=Dice(),
)


def as_it_is(x: Tensor) -> Tensor:
    return x


class Fake(ReferenceBackend):
    """The reference with something done to its results, under another name."""

    name = "fake"
    on_trial = True

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor] = as_it_is,
        masks: Callable[[Tensor], Tensor] = as_it_is,
        boxes: Callable[[Tensor], Tensor] = as_it_is,
    ) -> None:
        self.of_loss, self.of_masks, self.of_boxes, self.calls = loss, masks, boxes, 0

    def loss(self, *given: Any) -> Tensor:
        self.calls += 1
        return self.of_loss(super().loss(*given))

    def box_losses(self, *given: Any) -> tuple[Tensor, Tensor]:
        projection, pairwise = super().box_losses(*given)
        return projection, self.of_boxes(pairwise)

    def masks(self, *given: Any) -> Tensor:
        return self.of_masks(super().masks(*given))


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, MaskQuery, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 3, 4, 5, generator=generator).to(dtype).requires_grad_()
    params = torch.randn(2, SPEC.layout.num_params, generator=generator).to(dtype)
    zeros = torch.zeros(2, dtype=torch.long)
    query = MaskQuery(params, zeros, torch.zeros(2, 2), zeros)
    return features, query, torch.rand(2, 8, 10, generator=generator) > 0.5, torch.arange(2)


def more(x: Tensor) -> Tensor:
    return 1.001 * x


def steeper(x: Tensor) -> Tensor:
    """The same value with a gradient that is a hundredth too large."""
    return x + 0.01 * (x - x.detach())


def not_a_number(x: Tensor) -> Tensor:
    return x * float("nan")


def shifted(masks: Tensor) -> Tensor:
    return masks.roll(1, dims=2)


def raising(x: Tensor) -> Tensor:
    raise RuntimeError("ptxas: unknown target sm_999")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_that_is_right_is_used(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake()
    backend = ChosenBackend([fake])
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            backend.loss(SPEC, *batch(dtype))
    assert fake.calls == 3  # the trial's, and two that were asked for
    assert [x.levelname for x in caplog.records] == ["INFO", "INFO"]
    assert "trial of backend fake passed: loss" in caplog.messages[0]
    assert caplog.messages[1] == "Mask heads: backend fake"


@pytest.mark.parametrize(
    ("fake", "figure"),
    [
        (Fake(loss=more), "loss 1.0e-03 (at most 1e-04)"),
        (Fake(loss=steeper), "gradient of the features 1.0e-02 (at most 1e-04)"),
        (Fake(loss=steeper), "gradient of the networks 1.0e-02 (at most 1e-04)"),
        (Fake(loss=not_a_number), "loss nan (at most 1e-04)"),
        (Fake(masks=shifted), "(at most 1e-03)"),
        (Fake(loss=raising), "failed with RuntimeError: ptxas: unknown target sm_999"),
        (Fake(masks=raising), "failed with RuntimeError: ptxas: unknown target sm_999"),
    ],
    ids=["loss", "features", "networks", "nan", "masks", "raises", "raises in masks"],
)
def test_one_that_is_wrong_leaves_it_to_the_reference_and_is_said_once(
    fake: Fake, figure: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = ChosenBackend([fake])
    given = batch()
    with caplog.at_level(logging.INFO):
        found = [backend.loss(SPEC, *given) for _ in range(2)]
        masks = backend.masks(SPEC, given[0], given[1], (32, 40), (32, 40))
    assert found == [ReferenceBackend().loss(SPEC, *given)] * 2
    assert torch.equal(
        masks, ReferenceBackend().masks(SPEC, given[0], given[1], (32, 40), (32, 40))
    )
    warning, *others = caplog.records
    assert warning.levelname == "WARNING"
    assert figure in warning.message
    assert f"Please report this with: cpu, torch.float32, torch {torch.__version__}" in (
        warning.message
    )
    assert [x.message for x in others] == ["Mask heads: backend reference"]


@pytest.mark.parametrize(
    ("fake", "figure"),
    [
        (Fake(boxes=more), "pairwise loss 1.0e-03 (at most 1e-04)"),
        (Fake(boxes=steeper), "gradient of the networks "),
        (Fake(boxes=not_a_number), "pairwise loss nan (at most 1e-04)"),
        (Fake(boxes=raising), "failed with RuntimeError: ptxas: unknown target sm_999"),
    ],
    ids=["loss", "gradients", "nan", "raises"],
)
def test_losses_from_boxes_have_a_trial_of_their_own(
    fake: Fake, figure: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend, features = ChosenBackend([fake]), batch()[0]
    with caplog.at_level(logging.INFO):
        found = [backend.choose(SPEC, features, "boxes") for _ in range(2)]
        assert backend.choose(SPEC, features) is fake
    assert all(isinstance(x, ReferenceBackend) and x is not fake for x in found)
    assert found[0] is found[1]
    warning, said, *_ = caplog.records
    assert warning.levelname == "WARNING"
    assert warning.message.startswith("Losses from boxes: backend fake is not used: its trial ")
    assert figure in warning.message
    assert said.message == "Losses from boxes: backend reference"


def test_right_losses_from_boxes_are_used() -> None:
    fake = Fake(loss=more)  # is not asked for
    assert ChosenBackend([fake]).choose(SPEC, batch()[0], "boxes") is fake
    found = box_differences(Fake(), SPEC, CPU, torch.float16)
    assert [x.what for x in found] == [
        "projection loss",
        "pairwise loss",
        "gradient of the features",
        "gradient of the networks",
    ]
    assert all(x.fits for x in found), found


def test_the_next_candidate_is_used_before_the_reference() -> None:
    wrong, right = Fake(loss=more), Fake()
    right.on_trial = False
    assert ChosenBackend([wrong, right]).choose(SPEC, batch()[0]) is right


def test_every_type_and_spec_is_tried() -> None:
    fake = Fake()
    backend = ChosenBackend([fake])
    other = dataclasses.replace(SPEC, upsampling="plain")
    for spec, dtype in ((SPEC, torch.float32), (other, torch.float32), (SPEC, torch.float16)):
        for _ in range(2):
            backend.choose(spec, batch(dtype)[0])
    assert fake.calls == 3


def test_a_lack_of_memory_is_no_verdict() -> None:
    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    fake = Fake(loss=full)
    backend = ChosenBackend([fake])
    with pytest.raises(torch.OutOfMemoryError):
        backend.choose(SPEC, batch()[0])
    fake.of_loss = as_it_is  # the step passes in parts, then
    assert backend.choose(SPEC, batch()[0]) is fake


def test_in_inference_gradients_are_compared_too() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert isinstance(
            ChosenBackend([Fake(loss=steeper)]).choose(SPEC, batch()[0]), ReferenceBackend
        )
        assert ChosenBackend([Fake()]).choose(SPEC, batch()[0]).name == "fake"


def test_random_numbers_go_on_as_without_it() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    differences(Fake(), SPEC, CPU, torch.float32)
    assert torch.equal(torch.rand(2), wanted)


def test_the_tolerance_by_hand() -> None:
    assert tolerance(torch.float32) == pytest.approx(1e-4 + 2 * 2**-23)
    assert tolerance(torch.float16) == pytest.approx(1e-4 + 2 * 2**-10)
    assert tolerance(torch.bfloat16) == pytest.approx(1e-4 + 2 * 2**-7)


@pytest.mark.parametrize(
    "spec",
    [
        dataclasses.replace(SPEC, layout=HeadLayout(0, 2, 3, 2)),  # no feature has a gradient
        dataclasses.replace(SPEC, layout=HeadLayout(2, 0, 1, 1), coordinates="none", out_stride=1),
        dataclasses.replace(SPEC, coordinates="absolute", inference_stride=8, dice=Dice(1, 1)),
    ],
)
def test_other_specs(spec: MaskHeadSpec) -> None:
    found = differences(Fake(), spec, CPU, torch.float32)
    assert [x.what for x in found] == [
        "loss",
        "gradient of the features",
        "gradient of the networks",
        "masks",
    ]
    assert all(x.fits for x in found), found


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert choice._device_name(torch.device("cuda", 1)) == "GPU 1"
