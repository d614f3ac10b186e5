"""What a study's annotations cost, from the training set's objects."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from condinst.annotations.building import build_index
from condinst.config import get_cfg
from condinst.data.masks import MaskUse
from condinst.errors import UserError
from pipeline.compare import annotation
from pipeline.params import Ablation, Compare
from tests.conftest import TinyDataset

SHARE, EITHER = "INPUT.MASKS.SHARE", "MODEL.BOXINST.USE_MASKS"
SETTINGS = Compare(draws=10, confidence=0.95, seed=0, mask_seconds=80.0, box_seconds=10.0)
STUDY = Ablation(
    question="?", baseline="all", seeds=(0, 1), steps=1,
    variants={"none": {SHARE: 0.0}, "half": {SHARE: 0.5}, "all": {SHARE: 1.0}},
)  # fmt: skip


@pytest.fixture
def study(tiny_dataset: TinyDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three objects, of which two have a mask, and a crowd; trainings of each variant."""
    monkeypatch.chdir(tmp_path)
    objects = [dict(entry) for entry in tiny_dataset.content["annotations"]]
    del objects[1]["segmentation"]
    content = {**tiny_dataset.content, "annotations": objects}
    build_index(content, tiny_dataset.images, Path("data/prepared/train"))
    Path("data/prepared/dataset.json").write_text(json.dumps({"hash": "d0"}))
    for name, changes in STUDY.variants.items():
        trained(Path("study") / name / "seed0", {EITHER: True, **changes})
    return Path("study")


def trained(folder: Path, changes: dict[str, Any]) -> None:
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = cfg.MODEL.BOXINST.ENABLED = True
    cfg.merge_from_list([part for item in changes.items() for part in map(str, item)])
    (folder / "train").mkdir(parents=True)
    (folder / "train/config.yaml").write_text(cfg.dump())


def test_hours_follow_the_objects_that_have_masks(study: Path) -> None:
    found = annotation.costs(STUDY, study, SETTINGS, "d0")
    half = sum(MaskUse(True, True, 0.5, 0).shown({"id": i, "segmentation": True}) for i in (1, 3))
    assert {name: (one["masks"], one["boxes"]) for name, one in found.items()} == {
        "none": (0, 3),
        "half": (half, 3 - half),
        "all": (2, 1),
    }
    hours = [(0 * 80 + 3 * 10) / 3600, (2 * 80 + 1 * 10) / 3600]
    assert [found[name]["hours"] for name in ("none", "all")] == pytest.approx(hours)


def test_what_a_recipe_cannot_use_costs_nothing(study: Path) -> None:
    variants = {"masks": {"MODEL.BOXINST.ENABLED": False}, "boxes": {EITHER: False}}
    asked = dataclasses.replace(STUDY, variants=variants)
    for name, changes in variants.items():
        trained(study / name / "seed1", changes)
    found = annotation.costs(asked, study, SETTINGS, "d0")
    assert (found["masks"]["masks"], found["masks"]["boxes"]) == (2, 0)
    assert (found["boxes"]["masks"], found["boxes"]["boxes"]) == (0, 3)


def test_studies_of_something_else_count_nothing(study: Path) -> None:
    other = {"a": {"MODEL.CONDINST.MASK_OUT_STRIDE": 8}, "b": {}}
    assert annotation.costs(dataclasses.replace(STUDY, variants=other), study, SETTINGS, "?") == {}
    alike = {"none": {EITHER: True}, "absent": {EITHER: True}}  # one has not run
    assert annotation.costs(dataclasses.replace(STUDY, variants=alike), study, SETTINGS, "?") == {}


def test_other_data_and_lost_configs_are_told(study: Path) -> None:
    with pytest.raises(UserError, match=r"trained on data d1, .* holds d0"):
        annotation.costs(STUDY, study, SETTINGS, "d1")
    (study / "half/seed0/train/config.yaml").unlink()
    (study / "half/seed0/evaluate").mkdir()
    with pytest.raises(UserError, match=r"half/seed0/train/config\.yaml is missing"):
        annotation.costs(STUDY, study, SETTINGS, "d0")
