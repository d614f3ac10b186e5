from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_plain_cfg

from condinst.annotations.building import build_index
from condinst.config import get_cfg, load_config
from condinst.data.index import open_index
from condinst.data.mapper import CondInstDatasetMapper
from condinst.data.masks import MaskUse
from condinst.errors import UserError


@pytest.fixture
def record(tiny_dataset: Any, tmp_path: Path) -> dict[str, Any]:
    """Two objects, of which the first has only a box: 30, 10 to 80, 50."""
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert index.masked.tolist() == [True] * 4
    made = index[1]
    del made["annotations"][0]["segmentation"]
    return made


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (64,), "none"
    return cfg


def mapped(cfg: CfgNode, record: dict[str, Any]) -> Any:
    np.random.seed(0)  # noqa: NPY002  # what detectron2's augmentations draw from
    return CondInstDatasetMapper(cfg, is_train=True)(record)["instances"]


def test_masks_alone_leave_out_objects_without_one(cfg: CfgNode, record: dict[str, Any]) -> None:
    found = mapped(cfg, record)
    assert found.gt_boxes.tensor.tolist() == [[4, 40, 24, 60]]
    assert not found.has("gt_has_mask")


def test_boxes_alone_give_no_masks(cfg: CfgNode, record: dict[str, Any]) -> None:
    cfg.MODEL.BOXINST.ENABLED = True
    found = mapped(cfg, record)
    assert found.gt_boxes.tensor.tolist() == [[30, 10, 80, 50], [4, 40, 24, 60]]
    assert not found.has("gt_masks")


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_either_says_which_have_a_mask(
    cfg: CfgNode, record: dict[str, Any], mask_format: str
) -> None:
    cfg.MODEL.BOXINST.ENABLED = cfg.MODEL.BOXINST.USE_MASKS = True
    cfg.INPUT.MASK_FORMAT = mask_format
    found = mapped(cfg, record)
    assert found.gt_boxes.tensor.tolist() == [[30, 10, 80, 50], [4, 40, 24, 60]]
    assert found.gt_has_mask.tolist() == [False, True]
    assert found.gt_masks.nonempty().tolist() == [False, True]


def test_a_crop_clips_boxes_that_have_no_mask(cfg: CfgNode, record: dict[str, Any]) -> None:
    cfg.MODEL.BOXINST.ENABLED = cfg.MODEL.BOXINST.USE_MASKS = True
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, [0.5, 0.5]
    seen = set()
    for number in range(10):
        np.random.seed(number)  # noqa: NPY002
        found = CondInstDatasetMapper(cfg, is_train=True)(record)["instances"]
        h, w = found.image_size
        assert (found.gt_boxes.tensor <= torch.tensor([w, h, w, h])).all()
        assert found.gt_boxes.nonempty().all()
        masked = found[found.gt_has_mask]
        assert torch.equal(masked.gt_boxes.tensor, masked.gt_masks.get_bounding_boxes().tensor)
        seen.update(found.gt_has_mask.tolist())
    assert seen == {True, False}


def test_no_objects(cfg: CfgNode, record: dict[str, Any]) -> None:
    cfg.MODEL.BOXINST.ENABLED = cfg.MODEL.BOXINST.USE_MASKS = True
    for crop in (False, True):
        cfg.INPUT.CROP.ENABLED = crop
        found = mapped(cfg, {**record, "annotations": []})
        assert len(found) == len(found.gt_has_mask) == 0


def test_a_share_of_masks_is_shown_and_grows_by_addition() -> None:
    objects = [{"id": i, "segmentation": [[0, 0, 1, 0, 1, 1]]} for i in range(4000)]
    chosen = {
        share: {a["id"] for a in objects if MaskUse(True, True, share, 5).shown(a)}
        for share in (0.0, 0.1, 0.5, 1.0)
    }
    assert chosen[0.0] == set()
    assert len(chosen[1.0]) == 4000
    assert chosen[0.1] < chosen[0.5]
    assert len(chosen[0.1]) == pytest.approx(400, abs=80)  # four standard deviations
    assert chosen[0.1] != {a["id"] for a in objects if MaskUse(True, True, 0.1, 6).shown(a)}
    assert not MaskUse().shown({"id": 1, "segmentation": []})


def test_a_plain_config_reads_all_masks() -> None:
    cfg = get_plain_cfg()
    cfg.MODEL.MASK_ON = True
    assert MaskUse.from_config(cfg) == MaskUse()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["INPUT.MASKS.SHARE", "1.5"], "expected 0"),
        (["INPUT.MASKS.SHARE", "0.5"], "this recipe needs them"),
        (["INPUT.MASKS.SHARE", "0.5", "MODEL.BOXINST.ENABLED", "True"], "USE_MASKS"),
    ],
)
def test_shares_that_make_no_sense(overrides: list[str], message: str, repository: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_config(repository / "configs/CondInst/MS_R_50_1x.yaml", overrides)
