from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from condinst.errors import UserError
from pipeline import tracking
from pipeline.compare.evaluated import EvaluatedRun, check_comparable, locate

PARTS = {
    "evaluation.json": {"evaluator": "e", "images": 3, "annotations_sha256": "0"},
    "metrics.json": {"segm": {"AP": 12.5}, "bbox": {"AP": 20.0}},
    "detections.json": [],
}


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/evaluate"
    folder.mkdir(parents=True)
    for name, content in PARTS.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_folder_and_the_one_above(evaluation: Path) -> None:
    for reference in ("outputs/evaluate", "outputs", evaluation):
        found = locate(reference, Path("cache"))
        assert found.folder.resolve() == evaluation
        assert found.metrics["segm"]["AP"] == 12.5


@pytest.mark.slow
def test_dvc_revision(evaluation: Path) -> None:
    """The files come from DVC's cache although the folder has changed since."""
    for command in (
        ["git", "init", "-q"],
        ["git", "config", "user.email", "a@example.org"],
        ["git", "config", "user.name", "a"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "add", "-q", "outputs/evaluate"],
        ["git", "add", "-A"],
        ["git", "commit", "-q", "-m", "first"],
        ["git", "tag", "before"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    (evaluation / "metrics.json").unlink()
    (evaluation / "metrics.json").write_text("{}")
    found = locate("before", Path("cache"))
    assert found.name == "before"
    assert found.metrics["segm"]["AP"] == 12.5
    with pytest.raises(UserError, match="nothing-such is neither a folder nor a revision"):
        locate("nothing-such", Path("cache"))


@pytest.mark.slow
def test_mlflow_run(evaluation: Path, params: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = tracking.connect(params.tracking)
    with tracking.open_run(store, "one", {}, {}) as run:
        assert run.address is not None
        run_id = run.address.run_id
    tracking.log_evaluation(
        params, run_id, PARTS["metrics.json"], artifacts=sorted(evaluation.iterdir())
    )
    found = locate(run_id, Path("cache"))
    assert found.name == run_id[:8]
    assert found.metrics["segm"]["AP"] == 12.5
    with pytest.raises(UserError, match="MLflow"):
        locate("0" * 32, Path("cache"))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("annotations_sha256", "on different data"),
        ("evaluator", "by different evaluators"),
        ("evaluator_version", "by different versions"),
        ("max_detections", "with different limits"),
    ],
)
def test_what_cannot_be_compared(key: str, reason: str) -> None:
    one = EvaluatedRun("one", Path("a"), {key: 1}, {})
    other = EvaluatedRun("other", Path("b"), {key: 2}, {})
    check_comparable([one, one])
    with pytest.raises(UserError, match=f"one and other were measured {reason}"):
        check_comparable([one, other])
