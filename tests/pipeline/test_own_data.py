"""Other classes, one JSON parted in two, and what `data show` draws."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from condinst.errors import UserError
from pipeline.acquire import stage as acquire
from pipeline.params import RandomSplit
from pipeline.prepare import classes
from pipeline.prepare import stage as prepare

if TYPE_CHECKING:
    from pipeline.params import Params

CONTENT: dict[str, Any] = {
    "images": [],
    "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "truck"}, {"id": 9, "name": "dog"}],
    "annotations": [{"id": k, "category_id": k} for k in (3, 1, 9)],
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_classes_are_merged_renamed_and_left_out() -> None:
    changed, left_out = classes.change(CONTENT, {"car": "vehicle", "truck": "vehicle", "dog": None})
    assert changed["categories"] == [{"id": 1, "name": "vehicle"}]
    assert [entry["category_id"] for entry in changed["annotations"]] == [1, 1]
    assert left_out == 1
    assert CONTENT["annotations"][0]["category_id"] == 3, "what was given stays"


def test_a_class_can_join_one_that_keeps_its_name() -> None:
    changed, left_out = classes.change(CONTENT, {"truck": "car"})
    assert changed["categories"] == [{"id": 1, "name": "car"}, {"id": 9, "name": "dog"}]
    assert [entry["category_id"] for entry in changed["annotations"]] == [1, 1, 9]
    assert left_out == 0


def test_without_a_wish_all_stays() -> None:
    assert classes.change(CONTENT, {}) == (CONTENT, 0)


def test_classes_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match=r"classes.trcuk: .*did you mean truck.*car, dog, truck"):
        classes.change(CONTENT, {"trcuk": "car"})
    with pytest.raises(UserError, match="leaves out every class"):
        classes.change(CONTENT, dict.fromkeys(("car", "truck", "dog")))


def parted(params: Params, tiny: Any, **values: Any) -> Params:
    split = RandomSplit(json=str(tiny.annotations), images=str(tiny.images), **values)
    dataset = dataclasses.replace(
        params.dataset, source="directory", sample=None, split=split, classes={"slab": "square"}
    )
    return dataclasses.replace(params, dataset=dataset)


def ids(split: str) -> set[int]:
    path = Path(f"data/prepared/{split}/annotations.json")
    return {image["id"] for image in json.loads(path.read_text())["images"]}


def test_one_json_is_parted_by_share_and_seed(params: Params, tiny_dataset: Any) -> None:
    halves = set()
    for seed in (0, 1, 2, 3, 0):
        wanted = parted(params, tiny_dataset, val_share=0.25, seed=seed)
        acquire.run(wanted)
        prepare.run(wanted)
        assert ids("train") | ids("val") == {1, 2, 3, 4}
        assert not ids("train") & ids("val")
        halves.add((seed, *sorted(ids("val"))))
    assert len(halves) == 4, "the same seed parts alike"
    assert len({half[1:] for half in halves}) > 1, "another one may not"
    found = json.loads(Path("data/prepared/dataset.json").read_text())
    assert found["categories"] == [{"id": 1, "name": "square"}]
    splits = found["splits"].values()
    assert sum(split["objects"] + split["crowds"] for split in splits) == 4
    assert json.loads(Path("data/prepared/faults.json").read_text()) == {"train": [], "val": []}


def test_both_halves_need_an_image(params: Params, tiny_dataset: Any) -> None:
    with pytest.raises(UserError, match=r"0\.1 of 4 images is 0 for val"):
        acquire.run(parted(params, tiny_dataset, val_share=0.1))
    assert not Path("data/raw").exists()


def test_show_draws_both_splits(params: Params, tiny_dataset: Any) -> None:
    from pipeline.prepare import show

    wanted = parted(params, tiny_dataset, val_share=0.25)
    acquire.run(wanted)
    prepare.run(wanted)
    paths = show.write_sheets(images=2, seed=0)
    assert [str(path) for path in paths] == ["outputs/data/train.jpg", "outputs/data/val.jpg"]
    with Image.open(paths[0]) as train, Image.open(paths[1]) as val:
        assert train.width > val.width, "two images, one image"
