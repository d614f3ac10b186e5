"""Recipes and the masks that the data has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from condinst.annotations.building import build_index
from condinst.config import get_cfg
from condinst.errors import UserError
from pipeline.recipe import PreparedData
from pipeline.train.masks import check_masks
from tests.conftest import TinyDataset


def prepared(folder: Path, data: TinyDataset, masks: int) -> PreparedData:
    """Three objects, of which the first few have a mask."""
    objects = [dict(entry) for entry in data.content["annotations"]]
    for entry in objects[masks:3]:
        del entry["segmentation"]
    build_index({**data.content, "annotations": objects}, data.images, folder / "train")
    return PreparedData(folder, "tiny", "0", ("square", "slab"))


def config(**keys: Any) -> Any:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.BOXINST.merge_from_other_cfg(type(cfg)(keys))
    return cfg


def test_what_is_said(tiny_dataset: TinyDataset, tmp_path: Path) -> None:
    whole = prepared(tmp_path / "3", tiny_dataset, 3)
    some = prepared(tmp_path / "1", tiny_dataset, 1)
    none = prepared(tmp_path / "0", tiny_dataset, 0)
    assert check_masks(config(), whole) == []
    (note,) = check_masks(config(), some)
    assert note.startswith("2 of 3 objects have only a box and are left out")
    with pytest.raises(UserError, match=r"none of the 3 objects .* has a mask"):
        check_masks(config(), none)
    for data in (whole, some, none):
        assert check_masks(config(ENABLED=True), data) == []
        assert check_masks(config(ENABLED=True, USE_MASKS=True), data) == []
    hiding = config(ENABLED=True, USE_MASKS=True)
    hiding.INPUT.MASKS.SHARE = 0.5
    assert check_masks(hiding, whole) == []
    with pytest.raises(UserError, match=r"dataset\.masks\.share = 0\.5.*nothing to hide"):
        check_masks(hiding, none)
