"""What a training says about the weights that it starts from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


def test_says_what_the_weights_did_not_decide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    from condinst.checkpoint import loading
    from pipeline.train import job

    report = SimpleNamespace(notes=("the class layer starts from its initial values",))
    monkeypatch.setattr(loading, "load_weights", lambda model, path: report)
    job.load_weights(nn.Identity(), "MS_R_50_1x")
    said = " ".join(capsys.readouterr().err.split())
    assert said == "MS_R_50_1x: the class layer starts from its initial values"
