"""Equality with what the public implementations computed, as recorded in ../shared/parity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condinst.checkpoint.loading import load_weights
from tests.condinst.descent import judge
from tests.condinst.parity import (
    LEAST_SHARE,
    RECORDED,
    Case,
    detect,
    recorded_case,
    recorded_model,
    share_matched,
)


@pytest.fixture(scope="module", params=RECORDED)
def case(request: pytest.FixtureRequest, shared_dir: Path) -> Case:
    return recorded_case(shared_dir / "parity", request.param)


@pytest.mark.slow
def test_losses_gradients_and_steps(case: Case) -> None:
    verdict = judge(lambda: recorded_model(case), case)
    print(case["name"], verdict.errors.steps, "tries of the spread:", verdict.tries)
    assert not verdict.over


def test_detections(case: Case) -> None:
    found = detect(recorded_model(case), case)
    assert share_matched(found, case["detections"]) >= LEAST_SHARE


def test_a_file_of_weights_gives_the_recorded_model(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": case["state_dict"]}, path)
    model, wanted = recorded_model(case), recorded_model(case).state_dict()
    for x in model.parameters():
        torch.nn.init.zeros_(x)
    load_weights(model, path)
    torch.testing.assert_close(model.state_dict(), wanted, rtol=0, atol=0)
