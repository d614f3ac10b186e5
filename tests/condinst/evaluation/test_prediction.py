from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from pycocotools import mask as rle_tools
from torch import nn

from condinst.annotations.building import build_index
from condinst.data.registration import register_index
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.prediction import as_coco, predict_dataset

NAME = "tiny_for_prediction"


@pytest.fixture
def registered(tiny_dataset: Any, tmp_path: Path) -> Iterator[Any]:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path / "index")
    register_index(NAME, tmp_path / "index")
    yield tiny_dataset
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


class Oracle(nn.Module):
    """Finds the tiny dataset's objects as they are."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__()
        self.content = content
        self.seen: list[int] = []

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.seen.append(len(batch))
        return [{"instances": self._find(sample)} for sample in batch]

    def _find(self, sample: dict[str, Any]) -> Instances:
        size = sample["height"], sample["width"]
        mine = [e for e in self.content["annotations"] if e["image_id"] == sample["image_id"]]
        mine = [entry for entry in mine if not entry["iscrowd"]]
        boxes = torch.tensor([entry["bbox"] for entry in mine]).reshape(-1, 4).float()
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.zeros(len(mine), *size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        found = Instances(size)
        found.pred_boxes, found.pred_masks = Boxes(boxes), masks
        found.scores = torch.full((len(mine),), 0.75)
        found.pred_classes = torch.tensor([{1: 0, 7: 1}[e["category_id"]] for e in mine]).long()
        return found


@pytest.mark.parametrize("batch_size", [1, 3])
def test_results_are_in_the_datasets_own_ids(
    registered: Any, tiny_cfg: Any, batch_size: int
) -> None:
    model = Oracle(registered.content).train()
    found = predict_dataset(model, NAME, tiny_cfg, progress=False, batch_size=batch_size)
    assert model.training
    assert sum(model.seen) == 4
    assert max(model.seen) == batch_size
    assert [(e["image_id"], e["category_id"]) for e in found] == [(1, 1), (2, 7), (2, 1)]
    assert found[0]["bbox"] == [8, 8, 32, 32]
    assert found[0]["score"] == 0.75
    mask = rle_tools.decode(found[0]["segmentation"])
    assert mask.sum() == 32 * 32
    assert isinstance(found[0]["segmentation"]["counts"], str)
    scores = evaluate_coco(registered.content, found)
    for task in ("bbox", "segm"):
        assert scores.metrics[task]["AP"] == pytest.approx(100)


def test_a_real_model(registered: Any, tiny_cfg: Any) -> None:
    """An untrained network gives something in the right form, the same every time."""
    tiny_cfg.MODEL.FCOS.NUM_CLASSES = 2
    tiny_cfg.MODEL.FCOS.INFERENCE_TH_TEST = 0.0
    tiny_cfg.INPUT.MIN_SIZE_TEST = 192
    torch.manual_seed(0)
    model = build_model(tiny_cfg)
    found = predict_dataset(model, NAME, tiny_cfg, progress=False)
    assert found
    assert {entry["category_id"] for entry in found} <= {1, 7}
    assert {entry["image_id"] for entry in found} <= {1, 2, 3, 4}
    assert all(entry["segmentation"]["size"] == [64, 96] for entry in found)
    assert found == predict_dataset(model, NAME, tiny_cfg, progress=False)
    assert evaluate_coco(registered.content, found).metrics["segm"]["AP"] is not None


def test_no_instances() -> None:
    empty = Instances((10, 20))
    empty.pred_boxes, empty.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    empty.pred_classes = torch.zeros(0, dtype=torch.int64)
    assert as_coco(empty, 1) == []
    empty.pred_masks = torch.zeros(0, 10, 20, dtype=torch.bool)
    assert as_coco(empty, 1) == []


def test_boxes_alone() -> None:
    found = Instances((10, 20))
    found.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 4.0, 8.0]]))
    found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([3])
    (entry,) = as_coco(found, 9)
    assert entry == {"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 6], "score": 0.5}
