"""Images, boxes and masks stay together under every augmentation, and repeat by seed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BitMasks
from PIL import Image
from pycocotools import mask as mask_tools

from condinst.annotations.building import build_index
from condinst.config import get_cfg, load_config
from condinst.data.augmentation import OnRgb, training_augmentations
from condinst.data.mapper import CondInstDatasetMapper
from condinst.data.registration import register_index
from condinst.engine.batches import build_train_loader
from condinst.errors import UserError
from condinst.modeling.ground_truth import sample_masks

LSJ = {"LSJ": {"ENABLED": True, "MIN_SCALE": 0.4, "MAX_SCALE": 2.5, "SIZE": [80, 112]}}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lsj": LSJ,
    "fixed crop": {"FIXED_CROP": {"ENABLED": True, "SIZE": [48, 56]}},
    "fixed crop, padded": {"FIXED_CROP": {"ENABLED": True, "SIZE": [90, 100], "PAD": True}},
    "around an object": {
        "FIXED_CROP": {"ENABLED": True, "SIZE": [40, 120], "PAD": True, "AROUND_OBJECT": True}
    },
    "crop before": {"CROP": {"ENABLED": True, "TYPE": "relative", "SIZE": [0.6, 0.6]}, **LSJ},
}
BRIGHT, PADDED = 200, 128


def seed(number: int) -> None:
    np.random.seed(number)  # noqa: NPY002  # what detectron2's augmentations draw from


def config(way: dict[str, Any], mask_format: str = "polygon") -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = True, mask_format
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (64, 80), 160
    for section, values in way.items():
        cfg.INPUT[section].merge_from_other_cfg(CfgNode(values))
    return cfg


@pytest.fixture(params=["polygon", "compressed", "uncompressed"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A dark 64 x 96 image with two bright rectangles, each an object with a mask of a kind."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    annotations = []
    for number, (x0, y0, x1, y1) in enumerate([(6, 8, 46, 40), (56, 20, 88, 60)]):
        pixels[y0:y1, x0:x1, number] = BRIGHT
        mask = np.zeros((64, 96), np.uint8, order="F")
        mask[y0:y1, x0:x1] = 1
        runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F").astype(int), prepend=-1, append=-1)))
        segmentation = {
            "polygon": [np.array([x0, y0, x1, y0, x1, y1, x0, y1], float)],
            "compressed": mask_tools.encode(mask),
            "uncompressed": {"size": [64, 96], "counts": runs.tolist()},
        }[request.param]
        annotations.append(
            {
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "bbox_mode": 1,
                "category_id": number,
                "segmentation": segmentation,
            }
        )
    path = tmp_path / "picture.png"
    Image.fromarray(pixels[:, :, ::-1]).save(path)
    given = {"file_name": str(path), "image_id": 1, "height": 64, "width": 96}
    return {**given, "annotations": annotations}


def full_masks(found: Any) -> torch.Tensor:
    """(M, h, w), each rasterised at the image's size."""
    size = found.image_size
    if isinstance(found.gt_masks, BitMasks):
        return found.gt_masks.tensor
    coded = [mask_tools.merge(mask_tools.frPyObjects(p, *size)) for p in found.gt_masks.polygons]
    return torch.from_numpy(np.stack([mask_tools.decode(one) for one in coded])).bool()


@pytest.mark.parametrize("way", WAYS)
def test_boxes_and_masks_stay_where_the_picture_has_them(record: dict[str, Any], way: str) -> None:
    mapper = CondInstDatasetMapper(config(WAYS[way]), is_train=True)
    objects = 0
    for number in range(12):
        seed(number)
        mapped = mapper(record)
        found, image = mapped["instances"], mapped["image"]
        assert found.image_size == tuple(image.shape[1:])
        if not len(found):
            continue
        objects += len(found)
        for mask, box, label in zip(
            full_masks(found), found.gt_boxes.tensor, found.gt_classes.tolist(), strict=True
        ):
            bright = image[label] > PADDED + 36
            edge = 2 * (mask.sum(0).count_nonzero() + mask.sum(1).count_nonzero())
            assert (mask != bright).sum() <= edge, (way, number)
            ys, xs = mask.nonzero(as_tuple=True)
            tight = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (box - tight).abs().max() <= 2, (way, number, box, tight)
    assert objects >= 12


def test_boxes_without_masks_end_where_the_padding_begins(record: dict[str, Any]) -> None:
    way = {
        "LSJ": {**LSJ["LSJ"], "MIN_SCALE": 0.4, "MAX_SCALE": 0.4},
        "CROP": WAYS["crop before"]["CROP"],
    }
    cfg = config(way)
    cfg.MODEL.MASK_ON = False
    mapper = CondInstDatasetMapper(cfg, is_train=True)
    for number in range(8):
        seed(number)
        mapped = mapper(record)
        padding = (mapped["image"] == PADDED).all(0)
        height, width = (~padding.all(1)).sum(), (~padding.all(0)).sum()
        ends = mapped["instances"].gt_boxes.tensor[:, 2:]
        assert (ends <= torch.tensor([width, height])).all()


@pytest.mark.parametrize("way", WAYS)
def test_samples_equal_full_size_masks(record: dict[str, Any], way: str) -> None:
    mapper = CondInstDatasetMapper(config(WAYS[way]), is_train=True)
    for number in range(4):
        seed(number)
        found = mapper(record)["instances"]
        if not len(found):
            continue
        h, w = found.image_size
        size = -(-h // 32) * 32, -(-w // 32) * 32
        sampled = sample_masks(found.gt_masks, size, (1, 4, 8), "cpu").masks
        full = torch.zeros(len(found), *size, dtype=torch.bool)
        full[:, :h, :w] = full_masks(found)
        for stride, values in sampled.items():
            assert torch.equal(values, full[:, stride // 2 :: stride, stride // 2 :: stride])


def test_large_scale_jitter_gives_its_size_and_pads_no_mask(record: dict[str, Any]) -> None:
    way = {"LSJ": {**LSJ["LSJ"], "MIN_SCALE": 0.4, "MAX_SCALE": 0.4}}
    mapped = CondInstDatasetMapper(config(way), is_train=True)(record)
    assert mapped["image"].shape == (3, 80, 112)
    assert (mapped["image"][:, 40:] == 128).all()  # 64 x 96 fitted into 32 x 45
    assert not full_masks(mapped["instances"])[:, 40:].any()


def test_colour_leaves_geometry_alone_and_knows_its_channels() -> None:
    cfg = get_cfg()
    cfg.INPUT.COLOR.SATURATION = 0.5
    blue, red = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    blue[:, :, 0] = red[:, :, 2] = 200  # BGR
    saturate = training_augmentations(cfg)[-1]
    assert isinstance(saturate, OnRgb)
    for pixels, weight in ((blue, 0.114), (red, 0.299)):
        seed(0)
        factor = np.random.uniform(0.5, 1.5)  # noqa: NPY002
        seed(0)
        changed = T.AugInput(pixels)
        saturate(changed)
        grey = 200 * weight * (1 - factor)
        expected = np.clip(pixels * factor + grey, 0, 255)
        assert np.abs(changed.image - expected).max() <= 1
    assert (blue[:, :, 0] == 200).all()


def test_colour_changes_pixels_only(record: dict[str, Any]) -> None:
    cfg = config({"COLOR": dict.fromkeys(("BRIGHTNESS", "CONTRAST", "SATURATION"), 0.4)})
    cfg.INPUT.COLOR.LIGHTING, cfg.INPUT.COLOR.PROBABILITY = 20.0, 0.8
    seed(3)
    plain = CondInstDatasetMapper(config({}), is_train=True)(record)
    seed(3)
    found = CondInstDatasetMapper(cfg, is_train=True)(record)
    assert found["image"].dtype == torch.uint8
    assert found["image"].shape == plain["image"].shape
    assert not torch.equal(found["image"], plain["image"])
    assert torch.equal(full_masks(found["instances"]), full_masks(plain["instances"]))
    assert torch.equal(found["instances"].gt_boxes.tensor, plain["instances"].gt_boxes.tensor)


def test_everything_repeats_by_seed_and_goes_on_after_a_stop(
    tiny_dataset: Any, tmp_path: Path
) -> None:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path)
    register_index("augmented", tmp_path)
    cfg = config({"COLOR": {"BRIGHTNESS": 0.4, "LIGHTING": 9.0, "PROBABILITY": 0.5}, **LSJ})
    cfg.DATASETS.TRAIN, cfg.SOLVER.IMS_PER_BATCH = ("augmented",), 2

    def stream(workers: int, start: int, count: int) -> list[tuple[Any, ...]]:
        cfg.DATALOADER.NUM_WORKERS = workers
        mapper = CondInstDatasetMapper(cfg, is_train=True)
        loader = build_train_loader(cfg, mapper, seed=3, start_step=start)
        batches = list(itertools.islice(loader, count))
        return [(m["image"], m["instances"].gt_boxes.tensor) for step in batches for m in step]

    try:
        whole = stream(0, 0, 6)
        for again in (stream(0, 0, 6), stream(2, 0, 6)):
            for one, other in zip(whole, again, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        for one, other in zip(whole[6:], stream(0, 3, 3), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    finally:
        DatasetCatalog.remove("augmented")
        MetadataCatalog.remove("augmented")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["INPUT.LSJ.ENABLED", "True", "INPUT.LSJ.MIN_SCALE", "3"], "0 < MIN_SCALE <= MAX_SCALE"),
        (["INPUT.LSJ.ENABLED", "True", "INPUT.LSJ.SIZE", "[1024]"], "height and width in pixels"),
        (["INPUT.LSJ.ENABLED", "True", "INPUT.FIXED_CROP.ENABLED", "True"], "both true"),
        (["INPUT.FIXED_CROP.ENABLED", "True", "INPUT.FIXED_CROP.SIZE", "[0, 4]"], "above 0"),
        (["INPUT.COLOR.CONTRAST", "1.5"], r"INPUT.COLOR.CONTRAST = 1.5: expected 0 \(none\) to 1"),
        (["INPUT.COLOR.PROBABILITY", "0"], "above 0, at most 1"),
        (["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "round"], "expected one of relative"),
        (
            ["INPUT.CROP.TYPE", "relative", "INPUT.CROP.SIZE", "[2, 0.5]"],
            "fractions of height",
        ),
        (
            ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute_range",
             "INPUT.CROP.SIZE", "[9, 5]"],
            "smaller first",
        ),
        (["INPUT.LSJ.MIN_SCALES", "1"], "did you mean INPUT.LSJ.MIN_SCALE"),
    ],
)  # fmt: skip
def test_names_what_cannot_be(overrides: list[str], message: str, repository: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_config(repository / "configs/CondInst/sample.yaml", overrides)
