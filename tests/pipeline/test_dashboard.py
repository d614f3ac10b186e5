"""The dashboard: ports, servers that do not answer, the compare link; the server itself once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from condinst.errors import UserError
from pipeline.params import Params
from pipeline.tracking import dashboard


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind((dashboard.HOST, 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text((repository / "profiles" / "sample.yaml").read_text())
    return tmp_path


def record(path: Path, run_id: str | None) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"run_id": run_id, "experiment_id": "1"}))


def test_port_in_use(project: Path, taken_port: int) -> None:
    result = CliRunner().invoke(cli.app, ["dashboard", "--port", str(taken_port)])
    assert result.exit_code == 1
    assert f"Port {taken_port} is in use" in result.stderr
    assert "--port" in result.stderr
    assert [path.name for path in project.iterdir()] == ["params.yaml"]


def test_server_that_does_not_answer(
    params: Params, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind((dashboard.HOST, 0))
        address = f"http://{dashboard.HOST}:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(UserError, match="does not answer"):
            dashboard.serve(params, taken_port, print)


def test_named_server_is_told_and_nothing_is_started(
    params: Params, project: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.invalid")
    monkeypatch.setattr("pipeline.tracking.dashboard.check_answers", lambda uri: None)
    said: list[str] = []
    dashboard.serve(params, taken_port, said.append)
    assert said[0] == "MLflow: http://example.invalid"


def test_free_port_passes_over_taken_ones(taken_port: int) -> None:
    assert not dashboard.is_free(taken_port)
    assert dashboard.free_port(taken_port) != taken_port
    assert dashboard.is_free(dashboard.free_port(taken_port))


def test_latest_runs_has_the_main_first_and_each_once(tmp_path: Path) -> None:
    record(tmp_path / "ablate/coords/none/seed0/train/run.json", "c")
    record(tmp_path / "ablate/coords/absolute/seed0/train/run.json", "b")
    record(tmp_path / "ablate/coords/relative/seed0/train/run.json", "a")
    record(tmp_path / "ablate/coords/other/seed0/train/run.json", None)
    record(tmp_path / "train/run.json", "a")
    (tmp_path / "ablate/coords/none/seed1/train").mkdir(parents=True)
    (tmp_path / "ablate/coords/none/seed1/train/run.json").write_text("{")
    assert dashboard.latest_runs(tmp_path) == [("a", "1"), ("b", "1"), ("c", "1")]


def test_link_compares_the_latest_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(project / "outputs/train/run.json", "a")
    record(project / "outputs/ablate/coords/none/seed0/train/run.json", "b")
    dashboard._tell("http://127.0.0.1:5000", print)
    out = capsys.readouterr().out
    assert "Compare the 2 latest runs" in out
    assert "/#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%221%22%5D" in out


@pytest.mark.slow
def test_server_starts_and_ends_with_all_its_workers(project: Path, repository: Path) -> None:
    port = dashboard.free_port(5600)
    process = subprocess.Popen(
        [sys.executable, str(repository / "cli.py"), "dashboard", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        address = f"http://127.0.0.1:{port}"
        assert any(line.startswith(f"MLflow: {address}") for line in process.stdout)
        with urllib.request.urlopen(address, timeout=120) as page:
            assert page.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(120)
        process.stdout.close()
    assert status == cli.INTERRUPTED
    assert dashboard.is_free(port)
