"""A search of two tiny trials, and its parts without Ray."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from condinst.errors import UserError
from pipeline import tracking
from pipeline.params import METRICS, Params, Tracking, as_dict, load_params
from pipeline.studies import sweep, sweep_board, sweep_results
from pipeline.tracking import notes
from tests.conftest import REPOSITORY, TinyDataset
from tests.pipeline.small import prepare_small, shrink


def test_budget_and_rungs(tiny_params: Params) -> None:
    section = dataclasses.replace(tiny_params.sweep, steps=30)
    params = sweep._budgeted(dataclasses.replace(tiny_params, sweep=section))
    assert (params.train.steps, params.train.eval_period) == (30, 10)


SPACE = {
    "train.lr": {"log_uniform": [0.001, 0.1]},
    "train.clip_gradients": {"uniform": [0.5, 2.0]},
    "train.warmup_steps": {"int_uniform": [1, 5]},
    "MODEL.CONDINST.MASK_OUT_STRIDE": {"choice": [4, 8]},
}


def test_space_of_every_kind(tiny_params: Params) -> None:
    made = sweep_results.distributions(dataclasses.replace(tiny_params.sweep, space=SPACE))
    assert made["train.lr"].log
    assert not made["train.clip_gradients"].log
    assert (made["train.warmup_steps"].low, made["train.warmup_steps"].high) == (1, 5)
    assert made["MODEL.CONDINST.MASK_OUT_STRIDE"].choices == (4, 8)


@pytest.mark.parametrize("metric", [m for m in METRICS if m not in ("segm/AP", "bbox/AP")][::5])
def test_any_of_the_24_numbers_is_told(metric: str) -> None:
    told: list[dict] = []
    sweep.ReportHook(metric, told.append).on_row({"iteration": 4, f"eval/{metric}": 7.0})
    assert told == [{"score": 7.0, "step": 4, "run_id": ""}]
    assert len(METRICS) == 36


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


def test_states_and_the_best() -> None:
    def result(step: int, score: float, error: str = "") -> SimpleNamespace:
        return SimpleNamespace(
            metrics={"step": step, "score": score}, config={"train.lr": score}, error=error
        )

    found = [result(2, 5.0), result(1, 9.0), result(2, 7.0, "x\nboom")]
    trials = sweep_results.trial_records(found, 2)
    assert [trial["state"] for trial in trials] == ["finished", "stopped early", "failed"]
    assert trials[2]["error"] == "boom"
    assert sweep_results.best_trial(trials)["number"] == 0
    with pytest.raises(UserError, match="boom"):
        sweep_results.best_trial(trials[1:])


def made_up(number: int, lr: float, value: float | None) -> dict[str, Any]:
    values = {"train.lr": lr, "train.clip_gradients": 0.5 + (number * 7 % 15) / 10}
    return {"number": number, "params": values, "value": value, "state": "finished", "steps": 2,
            "run_id": f"{number:032x}", "error": ""}  # fmt: skip


@pytest.mark.slow
def test_what_decides_the_figure_is_the_most_important(tiny_params: Params) -> None:
    space = {key: SPACE[key] for key in ("train.lr", "train.clip_gradients")}
    section = dataclasses.replace(tiny_params.sweep, space=space)
    rates = [10 ** (-3 + 2 * (k * 5 % 12) / 11) for k in range(12)]
    trials = [made_up(k, lr, 300 * lr) for k, lr in enumerate(rates)]
    shares = sweep_results.importance(trials, section)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["train.lr"] > 0.8
    failed = [*trials, made_up(12, 0.05, None)]
    assert sweep_results.importance(failed, section) == shares
    same = [{**trial, "value": 3.0} for trial in trials]
    assert sweep_results.importance(same, section) == {}
    assert sweep_results.importance(trials[:3], section) == {}
    one = dataclasses.replace(section, space={"train.lr": SPACE["train.lr"]})
    assert sweep_results.importance(trials, one) == {}


def test_board_shows_every_trial(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = sweep_board.TrialRow(1, {"train.lr": 0.25}, "waiting")
    begun = sweep_board.TrialRow(0, {"train.lr": 0.5}, "training", 1, 4.0)
    over = dataclasses.replace(begun, state="finished", step=2, score=6.5)
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    live = sweep_board.Board("segm/AP", 2, 2, terminal)
    with live.showing():
        sweep_board.tell([begun, waiting])
        terminal.print(live.table())
        sweep_board.tell([over, waiting])
        assert live.best() == over
    text = screen.getvalue()
    for word in (" lr = 0.25", "waiting", "4.00", "1 / 2", "0 of 2 trials over"):
        assert word in text
    sweep_board.tell([begun])  # nobody looks
    assert live.rows == (over, waiting)
    assert capsys.readouterr().err == ""

    plain = sweep_board.Board("segm/AP", 2, 2, Console(file=io.StringIO()))
    for rows in ([begun, waiting], [begun, waiting], [over, waiting]):
        plain.update(rows)
    assert capsys.readouterr().err.splitlines() == [
        "trial 0: step 1: 4.00  (train.lr = 0.5)",
        "trial 0: step 2: 6.50  (train.lr = 0.5)",
        "trial 0: finished",
    ]


def test_note_links_every_trial() -> None:
    trials = [made_up(k, 0.01, 5.0 + k) for k in range(3)]
    about = {"metric": "segm/AP", "experiment_id": "7", "space": {"train.lr": {}}}
    text = notes.sweep_note({**about, "trials": trials, "best": trials[2]})
    for trial in trials:
        assert f"(#/experiments/7/runs/{trial['run_id']})" in text
    assert "[2 (best)]" in text
    assert "compare-runs?runs=" in text
    many = [made_up(k, 0.01, 5.0) for k in range(400)]
    assert len(notes.sweep_note({**about, "trials": many, "best": many[0]})) < 8000


def half_way(root: Path, params: Params) -> None:
    """Begin the sweep in a process of its own and kill it when the first trial is over."""
    (root / "params.yaml").write_text(yaml.safe_dump(as_dict(params)))
    command = [sys.executable, str(REPOSITORY / "cli.py"), "sweep"]
    with (root / "log.txt").open("w+") as log:
        driver = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
        while "trial 0: finished" not in (root / "log.txt").read_text():
            assert driver.poll() is None, (root / "log.txt").read_text()
            time.sleep(0.2)
        driver.kill()
        driver.wait()


@pytest.mark.slow
def test_search_goes_on_after_a_kill(
    tmp_path: Path,
    tiny_dataset: TinyDataset,
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare_small(tmp_path, tiny_dataset)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = dataclasses.replace(
        shrink(tiny_params), tracking=Tracking(enabled=True, experiment="x")
    )
    half_way(tmp_path, params)
    trained = {path: path.stat().st_mtime_ns for path in Path(".runs").glob("*/model.pth")}
    assert trained
    sweep.run(params)
    found = json.loads(Path("outputs/sweep/results.json").read_text())
    assert "going on with the search" in capsys.readouterr().err
    assert all(path.stat().st_mtime_ns == when for path, when in trained.items())
    assert len(list(Path(".runs").glob("*/model.pth"))) == 2
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
    (parent,) = [run for run in runs if run.info.run_id == found["run_id"]]
    assert found["best"]["run_id"] in parent.data.tags[notes.TAG]
