"""Equality with what the public implementations computed, as recorded in ../shared/parity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from condinst.checkpoint.key_tables import to_peer
from condinst.checkpoint.loading import load_weights
from condinst.config import load_config
from tests.condinst.parity import (
    Case,
    curve_errors,
    detect,
    gradient_error,
    share_matched,
    train_step,
)

RECIPES = Path(__file__).parents[2] / "configs" / "CondInst"
CASES = {
    "adelaidet_r50": "MS_R_50_1x.yaml",
    "adelaidet_r50_sem": "MS_R_50_3x_sem.yaml",
    "adelaidet_r50_bifpn": "MS_R_50_BiFPN_1x.yaml",
    "epiphqny_r50": "epiphqny/R_50_1x.yaml",
}
# Batch norm over the few cells of BiFPN's coarse levels magnifies rounding some thousandfold a
# step: from the fourth on, two orders of summation of the same model part by more than 1e-3.
STEPS = {"adelaidet_r50_bifpn": 3}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As many as when the cases were recorded, for the same order of summation."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, shared_dir: Path) -> Case:
    path = shared_dir / "parity" / f"{request.param}.pt"
    return torch.load(path, weights_only=True) | {"name": request.param, "path": path}


def loaded(case: Case, folder: Path) -> nn.Module:
    model = build_model(load_config(RECIPES / CASES[case["name"]], case["options"]))
    path = folder / "weights.pth"
    torch.save({"model": case["state_dict"]}, path)
    load_weights(model, path)
    return model


def test_losses_and_gradients(case: Case, tmp_path: Path) -> None:
    step = train_step(loaded(case, tmp_path), case)
    assert step.loss_error < 1e-4
    peers = to_peer(step.gradients, case["peer"]).state
    assert set(peers) == set(case["grad_norms"])
    assert gradient_error(peers, case["grad_norms"]) < 1e-3


def test_sgd(case: Case, tmp_path: Path) -> None:
    errors = curve_errors(loaded(case, tmp_path), case)
    print(case["name"], errors)
    assert max(errors[: STEPS.get(case["name"])]) < 1e-3


def test_detections(case: Case, tmp_path: Path) -> None:
    found = detect(loaded(case, tmp_path), case)
    assert share_matched(found, case["detections"]) >= 0.98
