"""The comparison itself: it lets rounding pass and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.condinst.descent import LEAST, Descent, Errors, allowed, compare, judge, nudged
from tests.condinst.parity import Case
from tests.golden.record import CASES, FOLDER, slim_case, slim_model


def errors(*steps: float, norm: float = 0.0) -> Errors:
    return Errors(list(steps), {"w": norm}, 0.0)


def test_errors_are_relative_and_rounding_of_tiny_gradients_is_none() -> None:
    wanted = Descent([{"a": 2.0, "b": 1.0}], {"large": 4.0, "small": 3.0, "none": 1e-8})
    found = Descent([{"a": 2.1, "b": 0.98}], {"large": 4.0, "small": 3.3, "none": 8e-7})
    made = compare(found, wanted)
    assert made.steps == pytest.approx([0.05])
    # noise: 2e-7 of 4.0, so that 8e-7 in place of 1e-8 is nothing
    assert made.norms == pytest.approx({"large": 0, "small": 0.1, "none": 0}, abs=1e-6)
    assert made.whole == pytest.approx((16 + 3.3**2) ** 0.5 / 5 - 1)


def test_limits_are_fixed_or_three_times_the_widest_spread() -> None:
    found = errors(0, 0, 0, 0)
    assert allowed(found, []).steps == [1e-4, 1e-4, 1e-3, 1e-3]
    spread = [errors(1e-2, 5e-5, 1e-4, 1e-2), errors(1e-2, 4e-5, 1e-4, 2e-2, norm=4e-3)]
    limits = allowed(found, spread)
    assert limits.steps == pytest.approx([1e-4, 1.5e-4, 1e-3, 6e-2])
    assert limits.norms == pytest.approx({"w": 1.2e-2})
    assert limits.whole == 1e-3
    assert allowed(found, [errors(0, 1e-2, 0, 0)]).steps[1] == 1e-3


def test_what_is_not_finite_is_no_spread() -> None:
    wanted = Descent([{"a": 2.0}], {"w": 1.0})
    with pytest.raises(AssertionError, match="nan"):
        compare(Descent([{"a": float("nan")}], {"w": 1.0}), wanted)


def test_every_weight_moves_by_one_unit_in_the_last_place() -> None:
    made = nudged(nn.Linear(64, 4), seed=0)
    made.bias.data.zero_()
    before = made.weight.detach().clone()
    nudged(made, seed=1)
    moved = (made.weight.view(torch.int32) - before.view(torch.int32)).abs()
    assert (moved == 1).all()
    assert (made.weight > before).any()
    assert (made.weight < before).any()
    assert not made.bias.any()


@pytest.fixture(scope="module")
def case() -> Case:
    return json.loads((FOLDER / "epiphqny.json").read_text()) | slim_case()


def louder_masks(model: Any) -> None:
    forward = model.forward
    model.forward = lambda x: {
        k: v * 1.001 if k == "loss_mask" else v for k, v in forward(x).items()
    }


def steeper(part: str) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        for name, x in model.named_parameters():
            if name.startswith(part) and x.requires_grad:
                x.register_hook(lambda gradient: gradient * 1.01)

    return change


def cut_off(model: nn.Module) -> None:
    model.get_submodule("fcos_head.bbox_tower")[0].weight.register_hook(torch.zeros_like)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (louder_masks, "step 1"),
        (steeper(""), "whole gradient"),
        (steeper("mask_branch"), "mask_branch"),
        (cut_off, "fcos_head.bbox_tower.0.weight"),
    ],
)
def test_a_small_error_is_seen(change: Callable[[nn.Module], None], seen: str, case: Case) -> None:
    def make() -> nn.Module:
        model = slim_model(CASES["epiphqny"])
        change(model)
        return model

    assert any(line.startswith(seen) for line in judge(make, case, most=LEAST).over)
