"""What MODEL.BOXINST must not hold is told before anything trains, by both ways in."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from condinst.errors import UserError
from pipeline.params import Params
from pipeline.params.sections import Masks
from pipeline.recipe import PreparedData, resolve
from pipeline.train import stage
from pipeline.train.config_file import train_from_config_file
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink

RECIPE = "configs/BoxInst/MS_R_50_1x.yaml"
DATA = PreparedData(Path("nowhere"), "toy", "abc", ("a", "b", "c"))
FAULTS = [
    ({"MODEL.BOXINST.PAIRWISE.SIZE": 4}, "expected odd, 3 or more"),
    ({"MODEL.BOXINST.PAIRWISE.SIZE": 1}, "expected odd, 3 or more"),
    ({"MODEL.BOXINST.PAIRWISE.SIZE": -3}, "expected odd, 3 or more"),
    ({"MODEL.BOXINST.PAIRWISE.DILATION": 0}, "expected 1 or more"),
    ({"MODEL.BOXINST.PAIRWISE.COLOR_THRESH": 1.01}, "expected 0 to 1"),
    ({"MODEL.BOXINST.PAIRWISE.COLOR_THRESH": -0.1}, "expected 0 to 1"),
    ({"MODEL.BOXINST.PAIRWISE.WARMUP_ITERS": -1}, "PAIRWISE.ENABLED False leaves the loss out"),
    ({"MODEL.BOXINST.BOTTOM_PIXELS_REMOVED": -1}, "expected 0 or more rows"),
    ({"MODEL.BOXINST.USE_MASKS": True, "MODEL.BOXINST.MASK_WEIGHT": -1.0}, "expected 0 or more"),
    ({"MODEL.BOXINST.USE_MASKS": True, "MODEL.BOXINST.BOX_WEIGHT": -0.5}, "expected 0 or more"),
    ({"MODEL.CONDINST.MASK_OUT_STRIDE": 3}, "use a divisor of the mask features' stride 8"),
    ({"MODEL.CONDINST.MASK_OUT_STRIDE": 0}, "use a divisor of the mask features' stride 8"),
    ({"INPUT.FORMAT": "L"}, "BGR and RGB images alone"),
    ({"INPUT.MASKS.SHARE": 0.5}, "set MODEL.BOXINST.ENABLED and MODEL.BOXINST.USE_MASKS to true"),
]


@pytest.fixture
def in_folder(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs").symlink_to(repository / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_overrides(params: Params, overrides: dict[str, Any]) -> Params:
    model = dataclasses.replace(params.model, config=RECIPE, overrides=overrides)
    return dataclasses.replace(params, model=model)


@pytest.mark.parametrize(("overrides", "message"), FAULTS)
def test_faults_are_told_before_training(
    params: Params, in_folder: Path, overrides: dict[str, Any], message: str
) -> None:
    told = f"{re.escape(list(overrides)[-1])} = .*{re.escape(message)}"
    with pytest.raises(UserError, match=told):
        resolve(with_overrides(params, overrides), DATA)
    words = [str(x) for item in overrides.items() for x in item]
    with pytest.raises(UserError, match=told):
        train_from_config_file(RECIPE, 0, opts=words)
    assert [path.name for path in in_folder.iterdir()] == ["configs"]


def test_all_faults_at_once_and_none_where_boxes_teach_nothing(
    params: Params, in_folder: Path
) -> None:
    wrong = {"MODEL.BOXINST.PAIRWISE.SIZE": 4, "MODEL.BOXINST.BOTTOM_PIXELS_REMOVED": -1}
    with pytest.raises(UserError, match=r"(?s)SIZE = 4.*BOTTOM_PIXELS_REMOVED = -1"):
        resolve(with_overrides(params, wrong), DATA)
    resolve(with_overrides(params, {**wrong, "MODEL.BOXINST.ENABLED": False}), DATA)
    pairs = {"MODEL.BOXINST.PAIRWISE.SIZE": 4, "MODEL.BOXINST.PAIRWISE.ENABLED": False}
    resolve(with_overrides(params, pairs), DATA)


@pytest.mark.slow
def test_a_share_of_masks_of_data_that_has_none(
    tiny_params: Params, tiny_dataset: TinyDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = tiny_dataset.content
    bare = [{k: v for k, v in x.items() if k != "segmentation"} for x in content["annotations"]]
    bare = [x for x in bare if not x["iscrowd"]]
    prepare_small(tmp_path, tiny_dataset, {**content, "annotations": bare})
    small = shrink(tiny_params)
    overrides = {"MODEL.BOXINST.ENABLED": True, "MODEL.BOXINST.USE_MASKS": True}
    overrides = {**small.model.overrides, **overrides}
    params = dataclasses.replace(
        small,
        model=dataclasses.replace(small.model, overrides=overrides),
        dataset=dataclasses.replace(small.dataset, masks=Masks(share=0.2, seed=0)),
    )
    with pytest.raises(
        UserError, match=r"dataset\.masks\.share = 0\.2.*set dataset\.masks to null"
    ):
        stage.run(params)
    assert not (tmp_path / "outputs").exists()
