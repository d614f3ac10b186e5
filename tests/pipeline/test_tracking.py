"""Runs in MLflow: what they carry, that they end, what happens without a server."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from condinst.errors import UserError
from pipeline import tracking
from pipeline.params import Params, Tracking
from pipeline.tracking import outbox
from pipeline.tracking.hook import MlflowHook

ON = Tracking(enabled=True, experiment="test")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tracking.Store:
    """One database for all tests of this file: making one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = tracking.connect(ON, tmp_path_factory.mktemp("store"))
    assert made is not None
    return made


def status(store: tracking.Store, run: tracking.Run) -> str:
    assert run.address is not None
    return store.client.get_run(run.address.run_id).info.status


def test_off_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking.connect(Tracking(enabled=False, experiment="x")) is None
    with tracking.open_run(None, "name", {}, {}) as run:
        run.log_rows([{"iteration": 1, "loss": 1.0}])
        run.log_metrics({"segm/AP": 1.0})
        run.set_tags({"a": "b"})
        run.log_artifacts([tmp_path])
    assert run.address is None
    assert not list(tmp_path.iterdir())


def test_run_carries_all(store: tracking.Store, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("A: 1")
    params = {"train": {"lr": 0.1}, **{f"key{i}": i for i in range(150)}}
    with tracking.open_run(store, "one", params, {"seed": "0"}) as run:
        assert run.log_rows([{"iteration": i, "total_loss": 1 / i} for i in (20, 40)])
        run.log_metrics({"segm/AP": 40.5, "segm/APs": None}, step=40)
        run.log_artifacts([tmp_path / "config.yaml", tmp_path / "missing"])
        assert status(store, run) == "RUNNING"
    assert status(store, run) == "FINISHED"
    assert run.address is not None
    found = store.client.get_run(run.address.run_id).data
    assert found.params["train.lr"] == "0.1"
    assert len(found.params) == 151
    assert found.tags["seed"] == "0"
    assert found.metrics == {"total_loss": 1 / 40, "segm/AP": 40.5}
    series = store.client.get_metric_history(run.address.run_id, "total_loss")
    assert [point.step for point in series] == [20, 40]
    files = store.client.list_artifacts(run.address.run_id)
    assert [file.path for file in files] == ["config.yaml"]


def test_runs_end_also_after_errors(store: tracking.Store) -> None:
    with pytest.raises(ValueError, match="oh"), tracking.open_run(store, "a", {}, {}) as failed:
        raise ValueError("oh")
    with pytest.raises(KeyboardInterrupt), tracking.open_run(store, "b", {}, {}) as killed:
        raise KeyboardInterrupt
    assert (status(store, failed), status(store, killed)) == ("FAILED", "KILLED")


def test_run_of_a_dead_process_is_ended(store: tracking.Store) -> None:
    dead, alive = store.start("dead", {}, {}), store.start("alive", {}, {})
    assert dead.address is not None
    tag = f"{socket.gethostname()}/999999:1"
    store.client.set_tag(dead.address.run_id, "condinst.process", tag)
    again = tracking.Store(store.uri, "test")
    assert (status(again, dead), status(again, alive)) == ("KILLED", "RUNNING")
    alive.__exit__(None)


def test_nesting_and_going_on(store: tracking.Store) -> None:
    with tracking.open_run(store, "study", {}, {}) as parent:
        assert parent.address is not None
        with tracking.open_run(store, "child", {}, {}, parent=parent.address.run_id) as child:
            pass
        lost = store.start("lost", {}, {}, parent.address.run_id)
        store.end_children(parent.address.run_id)
    assert child.address is not None
    tags = store.client.get_run(child.address.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.address.run_id
    assert status(store, lost) == "KILLED"
    with tracking.open_run(store, "child", {}, {}, former=child.address.run_id) as again:
        assert again.address == child.address
        assert status(store, again) == "RUNNING"
    with tracking.open_run(store, "child", {}, {}, former="no such run") as new:
        assert new.address != child.address


def test_hook_keeps_what_the_store_did_not_take(
    store: tracking.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.open_run(store, "flaky", {}, {}) as run:
        assert run.address is not None
        hook = MlflowHook(run.address, rows_a_request=1)
        real = tracking.Run.log_rows
        monkeypatch.setattr(tracking.Run, "log_rows", lambda *_: False)
        hook.on_row({"iteration": 20, "loss": 1.0})
        monkeypatch.setattr(tracking.Run, "log_rows", real)
        hook.after_train()
    assert [m.step for m in store.client.get_metric_history(run.address.run_id, "loss")] == [20]


def test_evaluation_goes_to_the_training_run(
    store: tracking.Store, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.open_run(store, "train", {}, {}) as run:
        pass
    assert run.address is not None
    monkeypatch.setattr("pipeline.tracking.store.connect", lambda *_, **__: store)
    metrics = {"segm": {"AP": 50.0, "APs": None}, "bbox": {"AP": 55.0}}
    tracking.log_evaluation(params, run.address.run_id, metrics, tags={"evaluator": "x"})
    found = store.client.get_run(run.address.run_id)
    assert found.data.metrics == {"segm/AP": 50.0, "bbox/AP": 55.0}
    assert found.info.status == "FINISHED"
    tracking.log_evaluation(params, "unknown", metrics)
    tracking.log_evaluation(params, None, metrics)


def test_missing_driver_of_a_database_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"postgresql://.*psycopg is missing; `make setup`"):
        tracking.Store("postgresql://127.0.0.1:9/runs", "test")


def test_missing_driver_of_a_bucket_names_the_command_and_keeps_the_file(
    store: tracking.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.tracking.run._away_until", {})
    monkeypatch.setitem(sys.modules, "boto3", None)
    (tmp_path / "curve.csv").write_text("1,2")
    elsewhere = store.client.create_experiment("bucket", artifact_location="s3://bucket/runs")
    run_id = store.client.create_run(elsewhere).info.run_id
    run = tracking.Run(tracking.Address(store.uri, run_id, elsewhere), store.client)
    run.log_artifacts([tmp_path / "curve.csv"])
    assert "boto3 is missing; `make setup` installs it" in caplog.text
    assert len(outbox.waiting(store.uri)) == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as silent:  # accepts, then says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (silent.getsockname()[1], 9):
            uri = f"http://127.0.0.1:{port}"
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            with pytest.raises(UserError, match=uri):
                tracking.connect(ON, tmp_path)
    assert not list(tmp_path.iterdir())


def test_compare_link() -> None:
    link = tracking.compare_url("http://127.0.0.1:5000/", ["a", "b"], "1")
    assert link == (
        "http://127.0.0.1:5000/#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%221%22%5D"
    )


def test_tags_of_dvc(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst.config import get_cfg

    monkeypatch.setenv("DVC_EXP_NAME", "brave-cat")
    tags = tracking.common_tags(params, "datahash", get_cfg())
    assert tags["DVC_EXP_NAME"] == "brave-cat"
    assert tags["data_hash"] == "datahash"
    assert tags["mask_out_stride"] == "4"
    assert len(tags["mlflow.source.git.commit"].removesuffix("-dirty")) in (0, 40)


def test_store_that_goes_away_loses_nothing(
    store: tracking.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fails in the middle of a run; what it missed is sent when it is opened again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "curve.csv").write_text("1,2")
    address = store.start("cut off", {}, {}).address
    assert address is not None
    client = SimpleNamespace()
    run = tracking.Run(address, cast("Any", client))  # whatever it is asked for raises
    with run:
        assert run.log_rows([{"iteration": 20, "loss": 1.0}])
        run.set_tags({"late": "yes"})
        run.log_artifacts([tmp_path / "curve.csv"], "late")
        (tmp_path / "curve.csv").unlink()  # what was logged is kept although the file goes
    found = store.client.get_run(address.run_id)
    assert (found.info.status, found.data.metrics) == ("RUNNING", {})
    assert len(outbox.waiting(store.uri)) == 4

    again = tracking.Store(store.uri, "test")
    found = again.client.get_run(address.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert found.data.tags["late"] == "yes"
    kept = again.client.download_artifacts(address.run_id, "late/curve.csv", str(tmp_path))
    assert Path(kept).read_text() == "1,2"
    assert not outbox.waiting(store.uri)
    assert not list(outbox.folder(store.uri).glob("*.files"))


def test_what_the_store_refuses_for_good_is_not_sent_again(
    store: tracking.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tracking.Run(tracking.Address(store.uri, "0" * 32, "0"), store.client)
    assert run.log_rows([{"iteration": 1, "loss": 1.0}])
    assert not outbox.waiting(store.uri)


def test_study_goes_on_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tracking.connect(ON, tmp_path, optional=True) is None
    assert "the next start sends the rest" in capsys.readouterr().err
