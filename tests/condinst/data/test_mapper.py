from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper
from detectron2.structures import BitMasks, PolygonMasks
from PIL import Image

from condinst.annotations.building import build_index
from condinst.data.crop import CropAroundObject
from condinst.data.images import read_oriented
from condinst.data.index import Index, open_index
from condinst.data.mapper import CondInstDatasetMapper
from condinst.errors import UserError


@pytest.fixture
def index(tiny_dataset: Any, tmp_path: Path) -> Index:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path / "index")
    return open_index(tmp_path / "index")


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (96, 128), 200
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 128, 160
    return cfg


def seed(number: int) -> None:
    np.random.seed(number)  # noqa: NPY002  # what detectron2's augmentations draw from


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_equals_detectron2(index: Index, cfg: CfgNode, number: int, mask_format: str) -> None:
    cfg.INPUT.MASK_FORMAT = mask_format
    seed(number)
    ours = CondInstDatasetMapper(cfg, is_train=True)(index[1])
    seed(number)
    theirs = DatasetMapper(cfg, is_train=True)(index[1])
    assert torch.equal(ours["image"], theirs["image"])
    a, b = ours["instances"], theirs["instances"]
    assert a.image_size == b.image_size
    torch.testing.assert_close(a.gt_boxes.tensor, b.gt_boxes.tensor)
    assert torch.equal(a.gt_classes, b.gt_classes)
    if mask_format == "polygon":
        for ours_of, theirs_of in zip(a.gt_masks.polygons, b.gt_masks.polygons, strict=True):
            np.testing.assert_allclose(ours_of, theirs_of)
    else:
        assert torch.equal(a.gt_masks.tensor, b.gt_masks.tensor.bool())


def test_any_run_length_mask_makes_all_masks_bitmasks(index: Index, cfg: CfgNode) -> None:
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (64,), "none"
    record = index[1]
    mask = np.zeros((64, 96), int)
    mask[5:20, 6:30] = 1
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=-1, append=-1)))
    record["annotations"][1]["segmentation"] = {"size": [64, 96], "counts": runs.tolist()}
    found = CondInstDatasetMapper(cfg, is_train=True)(record)["instances"]
    assert isinstance(found.gt_masks, BitMasks)
    assert torch.equal(found.gt_masks.tensor[1], torch.tensor(mask, dtype=torch.bool))
    assert found.gt_masks.tensor[0].sum() == 50 * 40


@pytest.mark.parametrize("place", [2, 3])
def test_crowds_are_no_objects_and_none_is_allowed(index: Index, cfg: CfgNode, place: int) -> None:
    found = CondInstDatasetMapper(cfg, is_train=True)(index[place])["instances"]
    assert len(found) == 0
    assert isinstance(found.gt_masks, PolygonMasks)


def test_gives_the_image_alone_for_inference(index: Index, cfg: CfgNode) -> None:
    found = CondInstDatasetMapper(cfg, is_train=False)(index[0])
    assert "instances" not in found
    assert found["image"].shape == (3, 107, 160)
    assert found["image"].dtype == torch.uint8
    assert (found["height"], found["width"], found["image_id"]) == (64, 96, 1)


@pytest.mark.parametrize("cuts", [True, False])
def test_a_crop_keeps_masks_and_boxes_together(index: Index, cfg: CfgNode, cuts: bool) -> None:
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, [0.5, 0.5]
    cfg.INPUT.CROP.CROP_INSTANCE = cuts
    mapper = CondInstDatasetMapper(cfg, is_train=True)
    for number in range(10):
        seed(number)
        found = mapper(index[1])["instances"]
        assert len(found) >= 1
        tight = found.gt_masks.get_bounding_boxes().tensor
        assert torch.equal(found.gt_boxes.tensor, tight)
        assert (tight[:, 2:] <= torch.tensor(found.image_size[::-1])).all()


def test_a_crop_that_may_cut_nothing_grows() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    boxes = np.array([[10.0, 10, 60, 60], [55, 20, 120, 90], [150, 0, 190, 30]])
    crop = CropAroundObject("absolute", (20, 20), cuts_objects=False)
    for number in range(20):
        seed(number)
        region = crop.get_transform(image, boxes)
        left, top, right, bottom = region.x0, region.y0, region.x0 + region.w, region.y0 + region.h
        inside = (boxes >= [left, top, left, top]) & (boxes <= [right, bottom, right, bottom])
        apart = (boxes[:, 2] <= left) | (boxes[:, 0] >= right)
        apart |= (boxes[:, 3] <= top) | (boxes[:, 1] >= bottom)
        assert (inside.all(1) | apart).all()


def test_turns_pictures_as_their_annotations_are(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees clockwise for viewing
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    turned = read_oriented(str(path), (30, 20))
    assert turned[5, 15, 0] == 255
    assert turned[5, 5, 0] == 0
    assert read_oriented(str(path), (20, 30))[5, 5, 0] == 255
    assert read_oriented(str(path)).shape == (30, 20, 3)
    with pytest.raises(UserError, match="20 x 30, its annotations say 9 x 9"):
        read_oriented(str(path), (9, 9))


def test_names_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8 this is no JPEG")
    with pytest.raises(UserError, match=r"broken.jpg does not decode"):
        read_oriented(str(path))
    with pytest.raises(UserError, match="missing"):
        read_oriented(str(tmp_path / "none.jpg"))
