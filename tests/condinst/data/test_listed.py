"""Lists of records that no `prepare` has checked."""

from __future__ import annotations

from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode

from condinst.config import get_cfg
from condinst.data.listed import check_listed
from condinst.data.masks import MaskUse
from condinst.engine.batches import training_records
from condinst.errors import UserError


def record(*boxes: tuple[float, ...], masks: bool = False, **more: Any) -> dict[str, Any]:
    """An image of 96 x 64 with boxes x, y, width, height."""
    objects: list[dict[str, Any]] = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, **more}
        for box in boxes
    ]
    for one in objects if masks else []:
        one["segmentation"] = [[0.0, 0.0, 9.0, 0.0, 9.0, 9.0]]
    return {"file_name": "1.jpg", "image_id": 1, "height": 64, "width": 96, "annotations": objects}


def config(share: float = 1.0, **keys: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON, cfg.INPUT.MASKS.SHARE, cfg.DATASETS.TRAIN = True, share, ("listed_train",)
    cfg.MODEL.BOXINST.merge_from_other_cfg(CfgNode(keys))
    return cfg


@pytest.mark.parametrize(
    "box", [(96, 0, 5, 5), (0, 64, 5, 5), (-9, 0, 8, 5), (0, -9, 5, 8), (float("nan"), 0, 5, 5)]
)
def test_boxes_outside_of_the_image_are_refused(box: tuple[float, ...]) -> None:
    given = [record((0, 0, 96, 64)), record((4, 4, 5, 5), box)]
    with pytest.raises(UserError, match=r"listed_train.* 1 objects, .* 1\.jpg .*96 x 64.*repair"):
        check_listed(given, config(ENABLED=True))
    check_listed([record(box, iscrowd=1)], config(ENABLED=True))
    check_listed([record(box, masks=True)], config())  # masks are learned from masks


def test_what_sticks_out_and_what_is_empty_at_the_border_pass() -> None:
    check_listed([record((90, 60, 20, 20), (95.5, 0, 0, 3)), record()], config(ENABLED=True))
    check_listed([], config(ENABLED=True))


def test_masks_that_are_wanted_and_are_not_there() -> None:
    bare, drawn = [record((0, 0, 9, 9), (1, 1, 5, 5))], [record((0, 0, 9, 9), masks=True)]
    either = {"ENABLED": True, "USE_MASKS": True}
    with pytest.raises(UserError, match=r"none of the 2 objects .*MODEL\.BOXINST\.ENABLED True"):
        check_listed(bare, config())
    with pytest.raises(UserError, match=r"INPUT\.MASKS\.SHARE = 0\.5: none of the 2 objects"):
        check_listed(bare, config(0.5, **either))
    for cfg in (config(ENABLED=True), config(**either)):
        check_listed(bare, cfg)
    for cfg in (config(), config(0.5, **either)):
        check_listed([*bare, *drawn], cfg)
        check_listed([record()], cfg)


def test_a_loader_asks() -> None:
    DatasetCatalog.register("listed_train", lambda: [record((200, 0, 5, 5))])
    try:
        with pytest.raises(UserError, match="outside their image"):
            training_records(config(ENABLED=True))
    finally:
        DatasetCatalog.remove("listed_train")


def test_objects_without_an_id_are_hidden_by_their_place() -> None:
    use, entry = MaskUse(True, True, 0.5, 0), {"segmentation": [[0, 0, 1, 0, 1, 1]]}
    shown = [use.shown(entry, f"7/{i}") for i in range(200)]
    assert 60 < sum(shown) < 140
    assert shown == [use.shown(entry, f"7/{i}") for i in range(200)]
    assert use.shown({**entry, "id": 3}, "7/0") == use.shown({**entry, "id": 3}, "7/1")
