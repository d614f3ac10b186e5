from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from condinst.config import get_cfg
from condinst.data.registered import classes_explained
from condinst.engine.batches import training_records
from condinst.errors import UserError
from condinst.evaluation.prediction import predict_dataset


def test_own_classes_under_coco_s_name_lead_to_the_profile(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}],
        "annotations": [],
        "categories": [{"id": 1, "name": "screw"}],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    metadata = {"thing_classes": ["person", "bicycle"]}
    register_coco_instances("looks_like_coco", metadata, str(tmp_path / "own.json"), "")
    cfg = get_cfg()
    message = r"own.json has classes of its own, .* the 2 of COCO.* profile use custom"
    try:
        cfg.DATASETS.TRAIN = ("looks_like_coco",)
        with pytest.raises(UserError, match=message):
            training_records(cfg)
        cfg.DATASETS.TRAIN = ("looks_like_coco", "looks_like_coco")
        with pytest.raises(UserError, match=message):
            training_records(cfg)
        with pytest.raises(UserError, match=message):
            predict_dataset(None, "looks_like_coco", cfg)
    finally:
        DatasetCatalog.remove("looks_like_coco")
        MetadataCatalog.remove("looks_like_coco")


def test_other_assertions_pass() -> None:
    with pytest.raises(AssertionError, match="other"), classes_explained("a"):
        raise AssertionError("other")
