"""The image whose colours are compared is the one that augmentation has made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import BoxMode
from PIL import Image
from torch import Tensor

from condinst.config import get_cfg
from condinst.data.mapper import CondInstDatasetMapper
from condinst.modeling.ground_truth import MaskSource, read_ground_truth
from condinst.modeling.objectives import scene_of
from condinst.modeling.supervision.box import BoxRules, alike_pairs, box_masks, box_spans
from tests.condinst.modeling.supervision.slow_boxinst import make_image

SIZE, STRIDE = (64, 96), 4


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """64 x 96 pixels and one object, of which only the box is known."""
    Image.fromarray(make_image(*SIZE, 5).permute(1, 2, 0).numpy()).save(tmp_path / "1.png")
    box = {"bbox": [8.0, 4.0, 39.0, 31.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    sizes = {"height": SIZE[0], "width": SIZE[1]}
    return {"file_name": str(tmp_path / "1.png"), "image_id": 1, "annotations": [box], **sizes}


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = cfg.MODEL.BOXINST.ENABLED = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (64,), "none"
    return cfg


def compared(cfg: CfgNode, record: dict[str, Any], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The image, its like pairs (J, H, W), and the box's cells (H, W)."""
    np.random.seed(seed)  # noqa: NPY002  # what detectron2's augmentations draw from
    mapped = CondInstDatasetMapper(cfg, is_train=True)(record)
    truth = read_ground_truth(mapped["instances"], SIZE, (STRIDE,), False, MaskSource.BOXES)
    scene = scene_of([mapped], [truth], SIZE, STRIDE)
    rules = BoxRules.from_config(cfg)
    alike = alike_pairs(scene.images, scene.heights, SIZE, STRIDE, rules)[0]
    (mask,) = box_masks(box_spans(truth.boxes, SIZE, STRIDE), (16, 24))
    return mapped["image"], alike, mask


def test_a_flipped_image_has_flipped_pairs_and_a_flipped_box(
    cfg: CfgNode, record: dict[str, Any]
) -> None:
    cfg.MODEL.BOXINST.BOTTOM_PIXELS_REMOVED = 0
    image, alike, mask = compared(cfg, record)
    assert 0 < alike.sum() < alike.numel()
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    seeds = (s for s in range(20) if not torch.equal(compared(cfg, record, s)[0], image))
    turned = compared(cfg, record, next(seeds))
    assert torch.equal(turned[0], image.flip(2))
    offsets = BoxRules().offsets
    mirrored = [offsets.index((dy, -dx)) for dy, dx in offsets]
    assert torch.equal(turned[1], alike[mirrored].flip(2))
    # Columns 8 to 39 of 96 become 56 to 88; cells are seen at every fourth pixel from the second.
    columns = [mask.any(0).nonzero().flatten().tolist() for mask in (mask, turned[2])]
    assert columns == [list(range(2, 10)), list(range(14, 22))]


def test_changed_colours_are_the_ones_compared(cfg: CfgNode, record: dict[str, Any]) -> None:
    image, alike, mask = compared(cfg, record)
    cfg.INPUT.COLOR.BRIGHTNESS = cfg.INPUT.COLOR.CONTRAST = 0.9
    changed = compared(cfg, record, 3)
    assert not torch.equal(changed[0], image)
    assert not torch.equal(changed[1], alike)
    assert torch.equal(changed[2], mask)
    again = alike_pairs([changed[0]], [SIZE[0]], SIZE, STRIDE, BoxRules.from_config(cfg))[0]
    assert torch.equal(changed[1], again)
