"""The memory format is measured once a machine, kept, and part of what a training is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from condinst.errors import UserError
from pipeline import runs
from pipeline.params import Params, load_params, override
from pipeline.recipe import PreparedData, resolve
from pipeline.train import tuning
from pipeline.train.key import run_key
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink

AUTO = {tuning.KEY: "auto"}


@pytest.fixture
def data(
    tmp_path: Path, tiny_dataset: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> PreparedData:
    monkeypatch.setenv("CONDINST_CACHE", str(tmp_path / "cache"))
    prepare_small(tmp_path, tiny_dataset)
    monkeypatch.chdir(tmp_path)
    return PreparedData.load()


@pytest.fixture
def auto(tiny_params: Params) -> Params:
    return override(shrink(tiny_params), AUTO)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Threads of every measurement, which finds contiguous twice as fast."""
    calls = []

    def measure(cfg: Any, data: PreparedData, images: int) -> dict[str, float]:
        calls.append(cfg.SOLVER.NUM_THREADS)
        return {"channels_last": 0.5, "contiguous": 0.25}

    monkeypatch.setattr(tuning, "measure", measure)
    return calls


def test_measured_once_and_part_of_the_training(
    data: PreparedData, auto: Params, measured: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuning.settled(auto, data) == auto
    tuning.tune(auto, data)
    assert "contiguous, 2.00 times as fast as channels_last" in capsys.readouterr().err
    now = tuning.settled(auto, data)
    assert now.train.memory_format == resolve(now, data).cfg.SOLVER.MEMORY_FORMAT == "contiguous"
    keys = {run_key(override(auto, {tuning.KEY: name}), data) for name in tuning.FORMATS}
    assert len(keys) == 2
    assert run_key(now, data) in keys
    tuning.tune(auto, data)
    tuning.tune(override(auto, {"MODEL.CONDINST.MASK_OUT_STRIDE": 1}), data)  # as fast: shared
    assert measured == [1]
    tuning.tune(override(auto, {"train.threads": 2}), data)
    tuning.tune(auto, data, again=True)
    assert measured == [1, 2, 1]
    assert [row[2] for row in tuning.rows(auto, data)] == ["contiguous", "contiguous"]


def test_a_training_that_has_begun_keeps_its_format(
    data: PreparedData, auto: Params, measured: list[int]
) -> None:
    folder = runs.RUNS / run_key(override(auto, {tuning.KEY: "channels_last"}), data)
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    tuning.tune(auto, data)
    assert tuning.settled(auto, data).train.memory_format == "channels_last"
    assert measured == []


@pytest.mark.parametrize(
    "change",
    [
        {tuning.KEY: "contiguous"},
        {"SOLVER.MEMORY_FORMAT": "contiguous"},
        {"train.num_gpus": 1},
        {"train.launcher": "ray"},
    ],
)
def test_nothing_to_decide(
    data: PreparedData, auto: Params, measured: list[int], change: dict[str, Any]
) -> None:
    fixed = override(auto, change)
    tuning.tune(fixed, data)
    assert tuning.settled(fixed, data) == fixed
    assert measured == []
    assert not tuning.cache().exists()


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "\x00"])
def test_a_damaged_file_is_ignored_and_replaced(
    data: PreparedData,
    auto: Params,
    measured: list[int],
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    tuning.cache().parent.mkdir()
    tuning.cache().write_text(text)
    tuning.tune(auto, data)
    assert f"{tuning.cache()} is ignored and will be replaced" in capsys.readouterr().err
    assert [row["chosen"] for row in json.loads(tuning.cache().read_text()).values()] == [
        "contiguous"
    ]


def test_what_cannot_be_tried_is_not_decided(
    data: PreparedData,
    auto: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure(*_: Any) -> dict[str, float]:
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(tuning, "measure", measure)
    tuning.tune(auto, data)
    assert "channels_last, as neither could be tried: not enough" in capsys.readouterr().err
    assert not tuning.cache().exists()


def test_decisions_of_other_machines_do_not_count(
    data: PreparedData, auto: Params, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning.tune(auto, data)
    monkeypatch.setattr(tuning, "processor_name", lambda: "another")
    assert tuning.settled(auto, data) == auto
    assert tuning.rows(auto, data) == []
    tuning.tune(auto, data)
    assert measured == [1, 1]


def test_an_unknown_format_is_named(repository: Path, tmp_path: Path) -> None:
    text = (repository / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("memory_format: auto", "memory_format: nhwc"))
    with pytest.raises(UserError, match=r"train.memory_format.*'nhwc'.*auto, contiguous, channels"):
        load_params(path)


def test_in_turns_gives_medians() -> None:
    calls: list[str] = []
    times = tuning.in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=60, rounds=3
    )
    assert calls == ["a", "b"] * 3
    assert set(times) == {"a", "b"}
    tuning.in_turns({"a": lambda: calls.append("c")}, seconds=0, rounds=3)
    assert calls[-2:] == ["b", "c"]  # one round in any case


@pytest.mark.slow
def test_both_formats_are_really_tried(data: PreparedData, auto: Params) -> None:
    auto = dataclasses.replace(auto, profile="x")
    tuning.tune(auto, data)
    (row,) = json.loads(tuning.cache().read_text()).values()
    assert set(row["seconds"]) == set(tuning.FORMATS)
    assert row["chosen"] == min(row["seconds"], key=row["seconds"].get)
