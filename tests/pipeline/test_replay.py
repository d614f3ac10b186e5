"""A training that fails for real leaves a dump that fails in the same way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from condinst.engine import NonFiniteLossError
from pipeline.params import Params
from pipeline.train import replay
from pipeline.train import stage as train
from pipeline.train.options import TrainOptions
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink


@pytest.fixture
def diverging(
    tmp_path: Path, tiny_dataset: TinyDataset, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> Params:
    """A learning rate that no network stands, in a project of four images."""
    prepare_small(tmp_path, tiny_dataset)
    monkeypatch.chdir(tmp_path)
    return shrink(
        tiny_params, steps=30, lr=1e4, warmup_steps=0, clip_gradients=0.0, max_skipped_steps=1,
        accumulate=2, images_per_step=4, skip_preflight=True,
    )  # fmt: skip


@pytest.mark.slow
def test_dump_of_a_real_training_fails_again(
    diverging: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        train.run(diverging)
    (dump,) = Path(".runs").glob("*/nonfinite/*.pth")
    assert caught.value.dump == dump.resolve()
    assert f"python cli.py replay {caught.value.dump}" in str(caught.value)
    capsys.readouterr()
    replay.run(dump)
    said = capsys.readouterr().out
    assert "not finite again" in said
    assert "loss_mask" in said
    assert "differs" not in said  # every loss is that of the training, to the bit


@pytest.mark.slow
def test_anomalies_are_looked_for_aside(
    diverging: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy = dataclasses.replace(diverging.train, steps=2, lr=0.001, skip_preflight=False)
    params = dataclasses.replace(diverging, train=healthy)
    train.run(params, TrainOptions(detect_anomaly=True))
    assert "no stage's output was changed" in capsys.readouterr().err
    assert not Path("outputs").exists()
