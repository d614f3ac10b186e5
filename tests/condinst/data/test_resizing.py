from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from condinst.config import get_cfg
from condinst.data.crop import CropAroundObject
from condinst.data.mapper import CondInstDatasetMapper
from condinst.data.resizing import Resize, resize_for_test


def shape(augmentation: T.Augmentation, *sides: int) -> tuple[int, ...]:
    image = np.zeros((*sides, 3), np.uint8)
    return augmentation.get_transform(image).apply_image(image).shape[:2]


def test_no_side_is_lost() -> None:
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 800, 1333
    resize = resize_for_test(cfg)
    assert shape(resize, 1, 5000) == (1, 1333)  # 1333 / 5000 of a pixel
    assert shape(resize, 5000, 1) == (1333, 1)
    assert shape(resize, 400, 500) == (800, 1000)
    assert shape(resize, 1, 1) == (800, 800)
    assert shape(Resize(T.ResizeScale(1.0, 1.0, 40, 40)), 1, 500) == (1, 40)


def test_no_resizing_stays_none() -> None:
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 0
    assert shape(resize_for_test(cfg), 1, 5000) == (1, 5000)


@pytest.mark.parametrize("kind", ["relative", "relative_range"])
def test_share_of_one_pixel_is_that_pixel(kind: str) -> None:
    np.random.seed(0)  # noqa: NPY002  # what detectron2's augmentations draw from
    crop = CropAroundObject(kind, (0.1, 0.5))
    assert crop.get_crop_size((1, 100))[0] == 1


@pytest.mark.parametrize("section", ["", "CROP", "LSJ", "FIXED_CROP"])
def test_strips_train_and_evaluate(tmp_path: Path, section: str) -> None:
    Image.fromarray(np.full((1, 5000, 3), 99, np.uint8)).save(tmp_path / "strip.png")
    polygon = [100.0, 0.0, 4000.0, 0.0, 4000.0, 1.0, 100.0, 1.0]
    record: dict[str, Any] = {
        "file_name": str(tmp_path / "strip.png"), "image_id": 1, "height": 1, "width": 5000,
        "annotations": [{
            "bbox": [100.0, 0.0, 3900.0, 1.0], "bbox_mode": BoxMode.XYWH_ABS,
            "segmentation": [polygon], "category_id": 0,
        }],
    }  # fmt: skip
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    if section:
        cfg.INPUT[section].ENABLED = True
    if section == "CROP":
        cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative", [0.3, 0.9]
    np.random.seed(1)  # noqa: NPY002
    mapped = CondInstDatasetMapper(cfg, is_train=True)(record)
    assert min(mapped["image"].shape[1:]) >= 1
    assert mapped["image"].shape[1:] == mapped["instances"].image_size
    assert CondInstDatasetMapper(cfg, is_train=False)(record)["image"].shape[1:] == (1, 1333)
