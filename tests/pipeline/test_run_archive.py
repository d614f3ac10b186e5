"""Runs from one store into another, whole, and not twice."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from condinst.errors import UserError
from pipeline import tracking
from pipeline.params import Tracking
from pipeline.tracking import archive as run_archive

ON = Tracking(enabled=True, experiment="test")


@pytest.mark.slow
def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    store = tracking.connect(ON)
    (tmp_path / "curve.csv").write_text("1,2")
    with tracking.open_run(store, "study", {"lr": 0.1}, {"a": "b"}) as parent:
        assert parent.address is not None
        with tracking.open_run(store, "child", {}, {}, parent=parent.address.run_id) as child:
            child.log_rows([{"iteration": i, "loss": 1 / i} for i in (1, 2)])
            child.log_artifacts([tmp_path / "curve.csv"], "evaluate")
    with tracking.open_run(store, "alone", {}, {}):
        pass
    archive = tmp_path / "runs.zip"
    assert run_archive.export_runs(ON, archive, [parent.address.run_id]) == 2
    assert run_archive.import_runs(ON, archive) == (0, 2)  # they come from here
    with pytest.raises(UserError, match="has no run nothing"):
        run_archive.export_runs(ON, archive, ["nothing"])
    assert run_archive.export_runs(ON, archive) == 3

    monkeypatch.chdir(tmp_path / "other")
    assert run_archive.import_runs(ON, archive) == (3, 0)
    assert run_archive.import_runs(ON, archive) == (0, 3)
    other = tracking.connect(ON)
    assert other is not None
    found = {run.info.run_name: run for run in other.client.search_runs([other.experiment_id])}
    assert set(found) == {"study", "child", "alone"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["study"].data.params == {"lr": "0.1"}
    new = found["child"]
    assert new.data.tags["mlflow.parentRunId"] == found["study"].info.run_id
    series = other.client.get_metric_history(new.info.run_id, "loss")
    assert [(point.step, point.value) for point in series] == [(1, 1.0), (2, 0.5)]
    target = str(tmp_path / "other")
    kept = other.client.download_artifacts(new.info.run_id, "evaluate/curve.csv", target)
    assert Path(kept).read_text() == "1,2"


def test_archives_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_archive, "_store", lambda _: None)
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("other.json", "{}")
    faults = {
        "text.zip": "is not an archive",
        "empty.zip": "is not an archive",
        "missing.zip": "is missing",
    }
    for name, fault in faults.items():
        with pytest.raises(UserError, match=f"{name} {fault}"):
            run_archive.import_runs(ON, tmp_path / name)
    with pytest.raises(UserError, match=r"tracking\.enabled is false"):
        monkeypatch.undo()
        run_archive.import_runs(Tracking(enabled=False, experiment="x"), tmp_path / "text.zip")
