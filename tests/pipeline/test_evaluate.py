from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from condinst.errors import UserError
from condinst.evaluation.scores import NUMBERS
from condinst.metrics import TASKS
from pipeline.evaluate import scoring
from pipeline.evaluate import stage as evaluate
from pipeline.layout import EVALUATED, TRAINED

HASH = "0123"


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_dataset: Any, tiny_cfg: Any
) -> dict[str, Any]:
    """A project whose model finds the tiny dataset's objects exactly, without being run."""
    monkeypatch.chdir(tmp_path)
    prepared = tmp_path / "data/prepared"
    (prepared / "val").mkdir(parents=True)
    (prepared / "val/annotations.json").write_bytes(tiny_dataset.annotations.read_bytes())
    categories = tiny_dataset.content["categories"]
    about = {"name": "tiny", "hash": HASH, "categories": categories, "splits": {}}
    (prepared / "dataset.json").write_text(json.dumps(about))
    folder = tmp_path / "outputs/train"
    folder.mkdir(parents=True)
    tiny_cfg.MODEL.FCOS.NUM_CLASSES = 2
    (folder / "config.yaml").write_text(tiny_cfg.dump())
    torch.save({"model": {}, "meta": {}}, folder / "model.pth")
    (folder / "run.json").write_text(json.dumps({"data_hash": HASH, "run_id": None, "steps": 3}))
    keys = ("image_id", "category_id", "bbox", "segmentation")
    objects = [e for e in tiny_dataset.content["annotations"] if not e["iscrowd"]]
    found = [{**{key: entry[key] for key in keys}, "score": 0.9} for entry in objects]
    asked: dict[str, Any] = {"found": found}

    def predict(model: Any, name: str, cfg: Any, progress: bool = True) -> list[dict[str, Any]]:
        asked.update(name=name, cfg=cfg)
        return asked["found"]

    monkeypatch.setattr(evaluate, "_load", lambda cfg, weights, precision: None)
    monkeypatch.setattr(evaluate.PreparedData, "register", lambda self: None)
    monkeypatch.setattr(evaluate, "predict_dataset", predict)
    return asked


def test_stage_leaves_everything(
    trained: dict[str, Any], tiny_params: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.run(tiny_params)
    folder = EVALUATED
    metrics = json.loads((folder / "metrics.json").read_text())
    assert tuple(metrics) == TASKS
    assert all(tuple(numbers) == NUMBERS for numbers in metrics.values())
    assert metrics["segm"]["AP"] == metrics["boundary"]["AP"] == pytest.approx(100)
    assert metrics["segm"]["APl"] is None
    per_class = json.loads((folder / "per_class.json").read_text())
    assert per_class["bbox"]["slab"]["AP"] == pytest.approx(100)
    about = json.loads((folder / "evaluation.json").read_text())
    assert about["data_hash"] == HASH
    assert about["steps"] == 3
    assert about["intervals"]["segm"]["AP"]["high"] == pytest.approx(100)
    assert about["intervals"]["segm"]["APl"] is None
    assert about["intervals"]["boundary"]["AP"]["high"] == pytest.approx(100)
    assert {"evaluator", "evaluator_version", "weights_sha256", "annotations_sha256"} <= set(about)
    assert json.loads((folder / "detections.json").read_text()) == trained["found"]
    rows = json.loads((folder / "per_image.json").read_text())
    assert [row["quality"] for row in rows] == [pytest.approx(100)] * 2 + [None] * 2
    curves = list(csv.DictReader((folder / "pr_curves.csv").open()))
    assert len(curves) == 3 * 3 * 3 * 101  # tasks, IoUs, two classes and their mean, recalls
    assert trained["name"] == evaluate.VAL_NAME
    assert tiny_params.evaluate.score_threshold == trained["cfg"].MODEL.FCOS.INFERENCE_TH_TEST
    assert "COCO scores on 4 images, 3 detections" in capsys.readouterr().out


def test_nothing_found_is_said(
    trained: dict[str, Any], tiny_params: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trained["found"] = []
    evaluate.run(tiny_params)
    (remark,) = json.loads((EVALUATED / "evaluation.json").read_text())["remarks"]
    assert "detects nothing above evaluate.score_threshold" in remark
    assert "has not learned yet" in capsys.readouterr().out


def test_data_of_boxes_alone_gives_box_ap_alone_and_says_so(tmp_path: Path) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40]}
    truth = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{**box, "id": 1, "area": 1600, "iscrowd": 0}],
    }
    (tmp_path / "val.json").write_text(json.dumps(truth))
    outline = [[10, 10, 50, 10, 50, 50, 10, 50]]
    card = scoring.score(tmp_path / "val.json", [{**box, "segmentation": outline, "score": 0.9}])
    assert card.scores.metrics["bbox"]["AP"] == pytest.approx(100)
    assert set(card.scores.metrics["segm"].values()) == {None}
    assert card.remarks == ("no object has a mask: only box AP is measured, mask AP is undefined.",)


def test_a_model_without_masks(
    trained: dict[str, Any], tiny_params: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in trained["found"]:
        del entry["segmentation"]
    evaluate.run(tiny_params)
    metrics = json.loads((EVALUATED / "metrics.json").read_text())
    assert list(metrics) == ["bbox"]
    assert metrics["bbox"]["AP"] == pytest.approx(100)
    rows = json.loads((EVALUATED / "per_image.json").read_text())
    assert rows[0]["quality"] == pytest.approx(100)
    shown = capsys.readouterr().out
    assert "the model gives boxes without masks" in shown
    assert "boundary" not in shown


def test_near_zero_is_said() -> None:
    scores = scoring.CocoScores(
        {task: dict.fromkeys(NUMBERS, 0.4) for task in TASKS}, {}, (), "e", "1"
    )
    (remark,) = scoring._remarks(scores, 5)
    assert remark.startswith("mask AP is 0.40, close to zero and box AP is 0.40, close to zero:")


def test_wrong_data_and_weights(trained: dict[str, Any], tiny_params: Any) -> None:
    record = TRAINED / "run.json"
    record.write_text(json.dumps({"data_hash": "other"}))
    with pytest.raises(UserError, match="trained on other data"):
        evaluate.run(tiny_params)
    record.write_text(json.dumps({"data_hash": HASH}))
    config = (TRAINED / "config.yaml").read_text()
    (TRAINED / "config.yaml").write_text(config.replace("NUM_CLASSES: 2", "NUM_CLASSES: 5"))
    with pytest.raises(UserError, match=r"predicts 5 classes, but tiny in .* has 2"):
        evaluate.run(tiny_params)
    (TRAINED / "config.yaml").write_text(config)
    (TRAINED / "model.pth").unlink()
    with pytest.raises(UserError, match=r"model\.pth is missing"):
        evaluate.run(tiny_params)
    record.unlink()
    with pytest.raises(UserError, match=r"run `python cli\.py train` first"):
        evaluate.run(tiny_params)
    assert not EVALUATED.exists()


def test_a_failure_leaves_the_former_result(
    trained: dict[str, Any], tiny_params: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate.run(tiny_params)
    before = {path.name: path.read_bytes() for path in EVALUATED.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scoring.csv, "writer", full)
    with pytest.raises(UserError, match="is the disk full"):
        evaluate.run(tiny_params)
    assert {path.name: path.read_bytes() for path in EVALUATED.iterdir()} == before
    assert {path.name for path in EVALUATED.parent.iterdir()} == {"train", "evaluate"}


def test_table_shows_undefined_numbers_as_a_dash(
    tiny_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "DRAWS", 20)
    console = Console(file=io.StringIO(), width=100)
    scoring.show(scoring.score(tiny_dataset.annotations, []), console=console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO
    (large,) = [line for line in lines if "APl" in line]
    assert large.split()[3] == "-"


@pytest.mark.slow
def test_a_real_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_dataset: Any,
    tiny_cfg: Any,
    tiny_params: Any,
) -> None:
    """Index, mapper, weights and an untrained network, nothing replaced."""
    from detectron2.modeling import build_model

    from condinst.annotations.building import build_index

    monkeypatch.chdir(tmp_path)
    prepared = tmp_path / "data/prepared"
    for split in ("train", "val"):
        build_index(tiny_dataset.annotations, tiny_dataset.images, prepared / split)
    categories = tiny_dataset.content["categories"]
    about = {"name": "tiny", "hash": HASH, "categories": categories, "splits": {}}
    (prepared / "dataset.json").write_text(json.dumps(about))
    tiny_cfg.MODEL.FCOS.NUM_CLASSES = 2
    tiny_cfg.INPUT.MIN_SIZE_TEST = 192
    tiny_cfg.DATASETS.TEST = (evaluate.VAL_NAME,)
    torch.manual_seed(0)
    weights = tmp_path / "model.pth"
    torch.save({"model": build_model(tiny_cfg).state_dict(), "meta": {}}, weights)
    every = dataclasses.replace(
        tiny_params, evaluate=dataclasses.replace(tiny_params.evaluate, score_threshold=0.0)
    )
    metrics = evaluate.evaluate_run(tiny_cfg, weights, prepared, tmp_path / "out", every)
    found = json.loads((tmp_path / "out/detections.json").read_text())
    assert found
    assert {entry["category_id"] for entry in found} <= {1, 7}
    assert metrics["segm"]["AP"] is not None
    tiny_cfg.MODEL.CONDINST.MASK_BRANCH.CHANNELS = 64
    with pytest.raises(UserError, match="mask_branch"):
        evaluate.evaluate_run(tiny_cfg, weights, prepared, tmp_path / "out2", every)
    assert not (tmp_path / "out2").exists()
