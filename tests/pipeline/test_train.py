"""The stage train on four images: its outputs, its memory of what is done, its refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from PIL import Image

from condinst.errors import UserError
from pipeline import tracking
from pipeline.params import Params, Tracking
from pipeline.recipe import PreparedData
from pipeline.train import stage as train
from pipeline.train.config_file import train_from_config_file
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink


@pytest.fixture
def project(tmp_path: Path, tiny_dataset: TinyDataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare_small(tmp_path, tiny_dataset)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Kill(HookBase):
    def before_step(self) -> None:
        if self.trainer.iter == 3:
            raise KeyboardInterrupt


def record(project: Path) -> dict:
    return json.loads((project / "outputs/train/run.json").read_text())


def weights(project: Path) -> dict[str, torch.Tensor]:
    return torch.load(project / "outputs/train/model.pth", weights_only=True)["model"]


@pytest.mark.slow
def test_outputs_and_second_run(
    project: Path, tiny_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(shrink(tiny_params))
    names = {path.name for path in (project / "outputs/train").iterdir()}
    assert names == {"model.pth", "config.yaml", "curve.csv", "environment.json", "run.json"}
    found = record(project)
    assert found["steps"] == 3
    assert found["data_hash"] == "0123456789abcdef"
    assert found["run_id"] is None
    meta = torch.load(project / "outputs/train/model.pth", weights_only=True)["meta"]
    assert meta["classes"] == ["square", "slab"]
    before = weights(project)
    capsys.readouterr()
    train.run(shrink(tiny_params))
    assert "already finished" in capsys.readouterr().err
    assert all(torch.equal(value, before[key]) for key, value in weights(project).items())
    assert not list(project.glob("outputs/.*"))


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_bits(project: Path, tiny_params: Params) -> None:
    params, data = shrink(tiny_params, steps=5), PreparedData.load()
    with pytest.raises(KeyboardInterrupt):
        train.train_into(
            params, data, train.Destination(Path("outputs/train"), "x"), hooks=[Kill()]
        )
    assert not (project / "outputs/train").exists()
    train.run(params)
    cut = weights(project)
    train.run(shrink(tiny_params, steps=5, checkpoint_period=100, workers=1))
    assert len(list(project.glob(".runs/*/model.pth"))) == 1  # neither changes the result
    (next(project.glob(".runs/*/result.json"))).unlink()
    for path in project.glob(".runs/*/checkpoints/*"):
        path.unlink()
    train.run(params)
    assert all(torch.equal(value, cut[key]) for key, value in weights(project).items())


@pytest.mark.slow
def test_a_killed_training_from_boxes_goes_on_to_the_same_bits(
    project: Path, tiny_params: Params
) -> None:
    params = shrink(tiny_params, steps=5)
    keys = {"MODEL.BOXINST.ENABLED": True, "MODEL.BOXINST.PAIRWISE.WARMUP_ITERS": 4}
    overrides = {**params.model.overrides, **keys}
    params = dataclasses.replace(
        params, model=dataclasses.replace(params.model, overrides=overrides)
    )
    with pytest.raises(KeyboardInterrupt):
        place = train.Destination(Path("outputs/train"), "x")
        train.train_into(params, PreparedData.load(), place, hooks=[Kill()])
    train.run(params)
    cut = weights(project)
    assert cut["mask_head._iter"].tolist() == [5.0]
    next(project.glob(".runs/*/result.json")).unlink()
    for path in project.glob(".runs/*/checkpoints/*"):
        path.unlink()
    train.run(params)
    assert all(torch.equal(value, cut[key]) for key, value in weights(project).items())


@pytest.mark.slow
def test_changed_params_train_again(project: Path, tiny_params: Params) -> None:
    train.run(shrink(tiny_params, steps=1))
    first = record(project)["hash"]
    train.run(shrink(tiny_params, steps=1, lr=0.001))
    assert record(project)["hash"] != first


@pytest.mark.slow
def test_evaluation_on_the_way(project: Path, tiny_params: Params) -> None:
    train.run(shrink(tiny_params, steps=3, eval_period=2))
    header, *rows = (project / "outputs/train/curve.csv").read_text().splitlines()
    assert "eval/segm/AP" in header
    assert len(rows) == 2


def test_more_gpus_than_there_are(project: Path, tiny_params: Params) -> None:
    wanted = torch.cuda.device_count() + 8
    with pytest.raises(UserError, match=f"--num-gpus {wanted}"):
        train.run(shrink(tiny_params, num_gpus=wanted, images_per_step=wanted))
    with pytest.raises(UserError, match=f"--num-gpus {wanted}"):
        train_from_config_file("configs/CondInst/MS_R_50_1x.yaml", wanted)
    assert not (project / "outputs").exists()
    assert not (project / ".runs").exists()


def test_silent_server_stops_before_training(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    params = dataclasses.replace(tiny_params, tracking=Tracking(enabled=True, experiment="x"))
    with pytest.raises(UserError, match="does not answer"):
        train.run(shrink(params))
    assert not (project / "outputs").exists()


def check_served(store: tracking.Store, run_id: str, project: Path) -> None:
    """The model that the run keeps predicts on images, and holds no pickle of MLflow's."""
    from mlflow import pyfunc

    folder = Path(store.client.download_artifacts(run_id, "model", str(project)))
    assert not list(folder.rglob("*.pkl"))
    model = pyfunc.load_model(str(folder))
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(picture).save(project / "picture.png")
    (found,) = model.predict(picture)
    (again,) = model.predict([str(project / "picture.png")])
    assert found == again
    assert {one["class"] for one in found} <= {"square", "slab"}
    assert all(one["segmentation"]["size"] == [64, 96] for one in found)
    assert model.predict(picture, params={"score": 1.0}) == [[]]
    with pytest.raises(UserError, match=r"nowhere\.png is missing"):
        model.predict("nowhere.png")
    with pytest.raises(UserError, match="uint8 RGB"):
        model.predict(picture[:, :, :1])


@pytest.mark.slow
def test_records_in_mlflow(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    params = dataclasses.replace(tiny_params, tracking=Tracking(enabled=True, experiment="x"))
    sheets = project / "data/prepared/sheets"
    sheets.mkdir()
    (sheets / "train.jpg").write_bytes(b"a sheet")
    train.run(shrink(params))
    store = tracking.connect(params.tracking)
    assert store is not None
    run = store.client.get_run(record(project)["run_id"])
    assert run.info.status == "FINISHED"
    assert {"total_loss", "loss_mask", "lr", "images_per_s", "memory_mb"} <= run.data.metrics.keys()
    assert run.data.params["train.steps"] == "3"
    assert run.data.tags["data_hash"] == "0123456789abcdef"
    files = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    of_data = store.client.list_artifacts(run.info.run_id, "dataset")
    assert {file.path for file in of_data} == {"dataset/dataset.json", "dataset/sheets"}
    assert files == {"model", "config.yaml", "curve.csv", "environment.json", "dataset"}
    assert "system/cpu_utilization_percentage" in run.data.metrics
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("small", "0123456789abcdef")
    assert [tag.value for tag in used.tags] == ["training"]
    check_served(store, run.info.run_id, project)
    store.client.delete_run(run.info.run_id)  # as if the database had been lost
    train.run(shrink(params))
    again = store.client.get_run(record(project)["run_id"])
    assert again.data.metrics["total_loss"] == pytest.approx(run.data.metrics["total_loss"], 1e-3)
    assert again.info.status == "FINISHED"


def test_data_that_is_not_prepared(
    tmp_path: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"cli.py prepare"):
        train.run(tiny_params)
