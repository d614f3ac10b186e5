"""A search of two tiny trials, and its parts without Ray."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from condinst.errors import UserError
from pipeline import sweep, tracking
from pipeline.params import Params, Tracking, load_params
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink


def test_budget_and_rungs(tiny_params: Params) -> None:
    section = dataclasses.replace(tiny_params.sweep, steps=30)
    params = sweep._budgeted(dataclasses.replace(tiny_params, sweep=section))
    assert (params.train.steps, params.train.eval_period) == (30, 10)


def test_space_of_every_kind(tiny_params: Params) -> None:
    space = {
        "train.lr": {"log_uniform": [0.001, 0.1]},
        "train.clip_gradients": {"uniform": [0.5, 2.0]},
        "train.warmup_steps": {"int_uniform": [1, 5]},
        "MODEL.CONDINST.MASK_OUT_STRIDE": {"choice": [4, 8]},
    }
    section = dataclasses.replace(tiny_params.sweep, space=space)
    made = sweep._space(dataclasses.replace(tiny_params, sweep=section))
    assert made["train.lr"].log
    assert not made["train.clip_gradients"].log
    assert (made["train.warmup_steps"].low, made["train.warmup_steps"].high) == (1, 5)
    assert made["MODEL.CONDINST.MASK_OUT_STRIDE"].choices == (4, 8)


def test_report_hook_tells_evaluations_alone() -> None:
    told: list[dict] = []
    hook = sweep.ReportHook("segm/AP", told.append)
    hook.on_row({"iteration": 20, "total_loss": 1.0})
    hook.on_row({"iteration": 40, "eval/segm/AP": 3.0})
    hook.tell(60, None, "run")
    assert told == [
        {"score": 3.0, "step": 40, "run_id": ""},
        {"score": 0.0, "step": 60, "run_id": "run"},
    ]


def test_states_and_the_best(tiny_params: Params) -> None:
    def result(step: int, score: float, error: str = "") -> SimpleNamespace:
        return SimpleNamespace(
            metrics={"step": step, "score": score}, config={"train.lr": score}, error=error
        )

    trials = sweep._trials([result(2, 5.0), result(1, 9.0), result(2, 7.0, "x\nboom")], tiny_params)
    assert [trial["state"] for trial in trials] == ["finished", "stopped early", "failed"]
    assert trials[2]["error"] == "boom"
    assert sweep._best(trials, tiny_params)["number"] == 0
    with pytest.raises(UserError, match="boom"):
        sweep._best(trials[1:], tiny_params)


@pytest.mark.slow
def test_search(
    tmp_path: Path,
    tiny_dataset: TinyDataset,
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare_small(tmp_path, tiny_dataset)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = dataclasses.replace(
        shrink(tiny_params), tracking=Tracking(enabled=True, experiment="x")
    )
    sweep.run(params)
    found = json.loads(Path("outputs/sweep/results.json").read_text())
    assert found["metric"] == "segm/AP"
    assert len(found["trials"]) == 2
    assert found["best"]["state"] == "finished"
    best = load_params("outputs/sweep/best.yaml")
    assert best.train.lr == found["best"]["params"]["train.lr"]
    store = tracking.connect(params.tracking)
    assert store is not None
    runs = store.client.search_runs([store.experiment_id])
    assert "RUNNING" not in {run.info.status for run in runs}
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(nested) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {found["run_id"]}
