"""The slim case kept in the repository: what the model computes must not change unseen."""

from __future__ import annotations

import json

import pytest
import torch

from tests.condinst.descent import judge
from tests.condinst.parity import LEAST_SHARE, Case, detect, share_matched
from tests.golden.record import CASES, FOLDER, slim_case, slim_model


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    made = json.loads((FOLDER / f"{request.param}.json").read_text()) | slim_case()
    for found in made["detections"]:
        for key in ("boxes", "scores", "classes"):
            found[key] = torch.tensor(found[key])
    return made | {"recipe": CASES[request.param]}


def test_losses_gradients_and_steps(case: Case) -> None:
    assert not judge(lambda: slim_model(case["recipe"]), case).over


def test_detections(case: Case) -> None:
    found = detect(slim_model(case["recipe"]), case)
    assert min(len(x) for x in found) > 0
    assert share_matched(found, case["detections"]) >= LEAST_SHARE
