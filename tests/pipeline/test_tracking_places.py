"""Names that MLflow refuses, odd folders, projects that moved, DVC's temporary copies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from condinst.errors import UserError
from pipeline import tracking
from pipeline.params import Tracking
from pipeline.tracking import outbox
from pipeline.tracking.names import clean, clean_all
from pipeline.tracking.workspace import workspace

ON = Tracking(enabled=True, experiment="test")


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def connect(root: Path) -> tracking.Store:
    root.mkdir(parents=True, exist_ok=True)
    store = tracking.connect(ON, root)
    assert store is not None
    return store


def finished(store: tracking.Store, file: Path) -> str:
    """A run with a file; its id."""
    with tracking.open_run(store, "run", {}, {}) as run:
        run.log_artifacts([file])
    assert run.address is not None
    return run.address.run_id


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("segm/AP", "segm/AP"),
        ("dataset.classes.car (red)", "dataset.classes.car _red_"),
        ("..", "__"),
        ("a/../b", "a/__/b"),
        ("/a//b/.", "_/a/_/b/_"),
        ("", "_"),
        ("größe: 5.0-é/漢", "größe: 5.0-é/漢"),
        ("line\nend\ud800", "line_end_"),
    ],
)
def test_names_are_cleaned(name: str, wanted: str) -> None:
    from mlflow.utils import validation as checks

    assert clean(name) == wanted
    for kind in ("param", "metric", "tag"):
        check = getattr(checks, f"_validate_{kind}_name")
        check(wanted)


def test_long_and_equal_names_stay_apart() -> None:
    long = ["x" * 300, "x" * 299, "car (a)", "car [a]", "car _a_"]
    found = clean_all(long)
    assert len(set(found.values())) == 5
    assert all(len(name) <= 250 for name in found.values())
    assert found["car _a_"] == "car _a_"  # who has the name keeps it
    assert found["car (a)"].startswith("car _a__")
    assert clean_all([]) == {}


@pytest.mark.slow
def test_one_refused_value_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = connect(tmp_path)
    classes = {"classes": {"car (red)": 1, "..": 2, "y" * 260: 3}}
    with tracking.open_run(store, "names", {"dataset": classes, "lr": 0.1}, {}) as run:
        run.log_metrics({"segm/AP/car (red)": 1.0, "segm/AP": 2.0}, step=4)
        # a value that no cleaning mends: the same parameter twice
        run._record("params", [["a", "1"], ["lr", "0.2"], ["b", "2"], ["c", "3"]])
    assert run.address is not None
    data = store.client.get_run(run.address.run_id).data
    assert data.metrics == {"segm/AP/car _red_": 1.0, "segm/AP": 2.0}
    assert data.params["dataset.classes.car _red_"] == "1"
    assert data.params["dataset.classes..."] == "2"
    assert len(data.params) == 7
    assert (data.params["lr"], data.params["a"], data.params["c"]) == ("0.1", "1", "3")
    assert caplog.text.count("did not accept a record") == 1


@pytest.mark.slow
def test_the_store_would_refuse_all(tmp_path: Path) -> None:
    """What the cleaning and the halves are for."""
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    store = connect(tmp_path)
    run_id = finished(store, tmp_path)
    with pytest.raises(MlflowException, match="Invalid value"):
        store.client.log_batch(run_id, [Metric("a", 1, 0, 0), Metric("a (b)", 1, 0, 0)])
    assert not store.client.get_run(run_id).data.metrics


@pytest.mark.slow
def test_folders_with_signs_of_addresses(tmp_path: Path) -> None:
    root, file = tmp_path / "a%20b?c#d e", tmp_path / "file.txt"
    file.write_text("x")
    connect(tmp_path / "a b")
    store = connect(root)
    run_id = finished(store, file)
    assert {path.name for path in root.iterdir()} >= {"mlflow.db", "mlartifacts"}
    assert not connect(tmp_path / "a b").has(run_id)
    assert [one.path for one in store.client.list_artifacts(run_id)] == ["file.txt"]
    assert list((root / "mlartifacts").rglob("file.txt"))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_copied_project_has_its_own_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, file = tmp_path / "first", tmp_path / "second copy", tmp_path / "file.txt"
    file.write_text("x")
    run_id = finished(connect(first), file)
    connect(first)
    assert "came from" not in capsys.readouterr().err
    shutil.copytree(first, second)
    store = connect(second)
    assert f"this project was at {first}" in capsys.readouterr().err
    finished(store, file)
    assert len(list((first / "mlartifacts").rglob("file.txt"))) == 1
    assert len(list((second / "mlartifacts").rglob("file.txt"))) == 2
    shutil.rmtree(first)
    again = connect(second)
    assert "came from" not in capsys.readouterr().err
    assert Path(again.client.download_artifacts(run_id, "file.txt")).read_text() == "x"


def test_broken_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match=r"mlflow.db cannot be read: .*move it away"):
        connect(tmp_path)


@pytest.mark.slow
def test_temporary_copies_of_dvc_write_to_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "tmp1a2b"
    copy.mkdir(parents=True)
    assert workspace(copy) == workspace(copy / "sub" / "folder") == tmp_path / "project"
    assert workspace(tmp_path / "project" / ".dvc" / "tmp") == tmp_path / "project/.dvc/tmp"
    monkeypatch.chdir(copy)
    assert workspace() == tmp_path / "project"
    assert outbox.folder("http://x").is_relative_to(tmp_path / "project" / ".runs")
    store = connect(copy)
    assert (tmp_path / "project" / "mlflow.db").is_file()
    assert not list(copy.iterdir())
    assert connect(tmp_path / "project").has(finished(store, tmp_path / "missing"))


@pytest.mark.slow
def test_dvc_works_where_we_look(tmp_path: Path, repository: Path) -> None:
    """In a real ``dvc exp run --temp`` the workspace is the project, not the copy."""
    project, told = tmp_path / "project", tmp_path / "told.txt"
    project.mkdir()
    code = (
        "from pathlib import Path; from pipeline.tracking.workspace import workspace; "
        f"Path({str(told)!r}).write_text(f'{{Path.cwd()}}|{{workspace()}}'); "
        "Path('out.txt').write_text('x')"
    )
    (project / "stage.py").write_text(code)
    (project / "dvc.yaml").write_text(
        yaml.safe_dump(
            {"stages": {"one": {"cmd": f"{sys.executable} stage.py", "outs": ["out.txt"]}}}
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(repository), "DVC_NO_ANALYTICS": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "."],
        ["git", *who, "commit", "-qm", "start"],
        [sys.executable, "-m", "dvc", "exp", "run", "--temp"],
    ):
        subprocess.run(words, cwd=project, env=environment, check=True, capture_output=True)
    worked_in, found = told.read_text().split("|")
    assert ".dvc/tmp/exps" in worked_in
    assert found == str(project)
