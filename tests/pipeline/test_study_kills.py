"""Four trainings of a study at once: one is killed, then all; the same command goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from pipeline import tracking
from pipeline.params import Ablation, Params, Tracking, as_dict
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink

VARIANTS = {
    "stride8": {"MODEL.CONDINST.MASK_OUT_STRIDE": 8},
    "stride4": {"MODEL.CONDINST.MASK_OUT_STRIDE": 4},
    "absolute": {"MODEL.CONDINST.COORDINATES": "absolute"},
    "none": {"MODEL.CONDINST.COORDINATES": "none"},
}


@pytest.fixture
def project(tmp_path: Path, tiny_dataset: TinyDataset, tiny_params: Params) -> Path:
    prepare_small(tmp_path, tiny_dataset)
    params = shrink(tiny_params)
    study = Ablation(question="?", baseline="stride8", seeds=(0,), steps=30, variants=VARIANTS)
    train = dataclasses.replace(params.train, steps=30, checkpoint_period=5)
    tracked = Tracking(enabled=True, experiment="x")
    params = dataclasses.replace(params, ablations={"killed": study}, train=train, tracking=tracked)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(as_dict(params)))
    return tmp_path


@pytest.mark.slow
def test_killed_with_four_in_flight(project: Path, repository: Path) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, str(repository / "cli.py"), "ablate", "killed", "--jobs", "4"]
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        return subprocess.Popen(
            command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True
        )

    first = start()
    saved = (project / ".runs").glob
    _wait(lambda: len(_jobs(first.pid)) >= 2 and any(saved("*/checkpoints/step_*.pth")), first)
    jobs = _jobs(first.pid)
    jobs[0].kill()
    _wait(lambda: jobs[0] not in _jobs(first.pid), first)
    jobs = _jobs(first.pid)
    first.kill()
    _wait(lambda: not any(job.is_running() and job.status() != "zombie" for job in jobs))
    assert not (project / "outputs/ablate/killed/metrics.json").exists()

    second = start()
    _, said = second.communicate(timeout=500)
    assert second.returncode == 0, said
    assert "locked" not in said
    found = json.loads((project / "outputs/ablate/killed/results.json").read_text())
    assert [run["state"] for run in found["runs"]] == ["finished"] * 4
    logs = [path.read_text() for path in (project / ".runs").glob("*/log.txt")]
    assert any("resuming from step" in text for text in logs)
    store = _store(project)
    states = [run.info.status for run in store.client.search_runs([store.experiment_id])]
    assert states.count("FINISHED") == 5  # four under the study's own
    assert {*states} <= {"FINISHED", "KILLED"}  # killed before its training knew of it

    weights = project / "outputs/ablate/killed/stride8/seed0/train/model.pth"
    interrupted = torch.load(weights, weights_only=True)["model"]
    shutil.rmtree(project / ".runs")
    alone = [sys.executable, str(repository / "cli.py"), "ablate", "killed", "--variant", "stride8"]
    subprocess.run(alone, cwd=project, check=True, capture_output=True)
    whole = torch.load(weights, weights_only=True)["model"]
    assert all(torch.equal(value, interrupted[name]) for name, value in whole.items())


def _store(project: Path) -> tracking.Store:
    store = tracking.connect(Tracking(enabled=True, experiment="x"), project)
    assert store is not None
    return store


def _jobs(parent: int) -> list[psutil.Process]:
    """The processes that the warm one was forked into."""
    try:
        return [job for child in psutil.Process(parent).children() for job in child.children()]
    except psutil.NoSuchProcess:
        return []


def _wait(done: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 400
    while not done():
        assert time.monotonic() < until
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.1)
