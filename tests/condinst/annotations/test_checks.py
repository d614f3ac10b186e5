from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_tools

from condinst.annotations.checks import check_annotations
from condinst.annotations.faults import Ledger
from condinst.annotations.mending import Mender
from condinst.annotations.screening import KnownImages, screen

SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
SOUND: dict[str, Any] = {
    "id": 5,
    "image_id": 1,
    "category_id": 3,
    "bbox": [10, 10, 10, 10],
    "area": 100,
    "iscrowd": 0,
    "segmentation": [SQUARE],
}


@pytest.fixture
def content() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
        "annotations": [dict(SOUND)],
        "categories": [{"id": 3, "name": "square"}],
    }


def test_leaves_what_is_sound_as_it_is(content: dict[str, Any]) -> None:
    result = check_annotations(copy.deepcopy(content))
    assert result.content == content
    assert (result.faults, result.fatal) == ([], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 2}, "image_id is 2, which is not listed"),
        ({"category_id": "4"}, "category_id is '4', which is not listed"),
        ({"bbox": [10, 10, 0, 10]}, "is empty"),
        ({"bbox": [10, 10, 5]}, "four finite numbers"),
        ({"bbox": [10, 10, float("nan"), 5]}, "four finite numbers"),
        ({"bbox": [60, 10, 5, 5]}, "outside its image"),
        ({"segmentation": [], "bbox": None}, "it has no mask, and its bbox is None"),
        ({"segmentation": None, "bbox": [0.1, 0.1, 0.5, 0.5]}, "lies within 0 to 1"),
        ({"segmentation": "none"}, "the segmentation 'none'"),
        ({"segmentation": [[1, 2, 3, 4]]}, "4 numbers"),
        ({"segmentation": [[*SQUARE, 1]]}, "9 numbers"),
        ({"segmentation": [["a"] * 6]}, "no list of finite numbers"),
        ({"segmentation": [[0, 0, 1e30, 0, 5, 5]]}, "pixels from the corner"),
        ({"segmentation": {"size": [40, 60], "counts": "%"}}, "damaged"),
        ({"iscrowd": 2}, "iscrowd is 2"),
    ],
)
def test_leaves_out_what_is_faulty(
    content: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    content["annotations"][0] |= change
    result = check_annotations(content)
    assert result.content["annotations"] == []
    (fault,) = result.faults
    assert (fault.entry, fault.id, fault.action) == ("annotation", 5, "dropped")
    assert reason in fault.reason


def test_keeps_the_sound_polygons_of_an_annotation(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = [SQUARE, [1, 2]]
    result = check_annotations(content)
    assert result.content["annotations"][0]["segmentation"] == [SQUARE]
    assert "1 of its 2 polygons" in result.faults[0].reason


def test_finds_duplicates_and_what_refers_to_what_is_left_out(content: dict[str, Any]) -> None:
    content["annotations"].append(dict(content["annotations"][0]))
    content["images"] += [{"id": 2, "file_name": "c.jpg", "height": 0, "width": 4}]
    content["annotations"].append(content["annotations"][0] | {"id": 6, "image_id": 2})
    content["categories"].append({"id": 4})
    result = check_annotations(content)
    assert [(fault.entry, fault.id, fault.kind) for fault in result.faults] == [
        ("category", 4, "category name unusable"),
        ("image", 2, "image size unusable"),
        ("annotation", 5, "annotations share an id"),
        ("annotation", 6, "image left out"),
    ]
    assert [entry["id"] for entry in result.content["annotations"]] == [5]


def test_takes_no_annotation_that_may_be_of_either_of_two_pictures(content: dict[str, Any]) -> None:
    content["images"] += [{"id": 1, "file_name": "b.jpg", "height": 4, "width": 4}]
    result = check_annotations(content, "repair")
    assert (result.content["images"], result.content["annotations"]) == ([], [])
    assert [fault.entry for fault in result.faults] == ["image", "image", "annotation"]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "b/../../a.jpg", "..\\a.jpg"])
def test_takes_no_image_outside_of_its_folder(content: dict[str, Any], name: str) -> None:
    content["images"].append({"id": 2, "file_name": name, "height": 40, "width": 60})
    (fault,) = check_annotations(content).faults
    assert (fault.entry, fault.id) == ("image", 2)
    assert "leads out of the folder" in fault.reason


def test_fills_in_from_the_mask(content: dict[str, Any]) -> None:
    for key in ("bbox", "area", "iscrowd"):
        del content["annotations"][0][key]
    (entry,) = check_annotations(content).content["annotations"]
    assert entry["bbox"] == [10, 10, 10, 10]
    assert (entry["area"], entry["iscrowd"]) == (100, 0)


def test_measures_more_coded_masks_than_pycocotools_takes_at_once(content: dict[str, Any]) -> None:
    many = []
    for k in range(300):
        x, y = k % 50, k // 50
        corners = [x, y, x + 10, y, x + 10, y + 10, x, y + 10]
        mask = mask_tools.merge(mask_tools.frPyObjects([corners], 40, 60))
        mask["counts"] = mask["counts"].decode()
        many.append({**SOUND, "id": k + 1, "segmentation": mask, "bbox": [x, y, 10, 10]})
    result = check_annotations({**content, "annotations": many}, "strict")
    assert (len(result.content["annotations"]), result.faults) == (300, [])


def test_gives_ids_that_the_evaluator_can_match(content: dict[str, Any]) -> None:
    first = content["annotations"][0]
    unnamed = {key: value for key, value in first.items() if key != "id"}
    triangle, larger = SQUARE[:6], [*SQUARE[:4], 20, 21, *SQUARE[6:]]
    content["annotations"] = [
        first | {"id": 0},
        first | {"id": 1, "segmentation": [triangle], "area": 50},
        unnamed | {"segmentation": [larger]},
    ]
    result = check_annotations(content)
    assert [entry["id"] for entry in result.content["annotations"]] == [2, 1, 3]
    assert [fault.kind for fault in result.faults] == ["annotation id unusable"] * 2


def test_what_passes_many_at_a_time_passes_alone_too(shared_dir: Path) -> None:
    path = shared_dir / "data/coco_mini/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    result = check_annotations(content, "strict")
    assert result.faults == []
    images = {image["id"]: image for image in content["images"]}
    names = {
        kind: {k: k for k in {entry[f"{kind}_id"] for entry in content["annotations"]}}
        for kind in ("image", "category")
    }
    mender = Mender(Ledger("strict"), images, names, {"image": {}, "category": {}})
    for entry, kept in zip(content["annotations"], result.content["annotations"], strict=True):
        assert kept is entry
        assert mender.mend(entry, "", twice=False) is entry
    assert mender.ledger.faults == []


@settings(deadline=None)
@given(st.data())
def test_many_at_a_time_misses_nothing_that_one_by_one_finds(data: st.DataObject) -> None:
    """Annotations spoilt at random: what screening passes, mending must find nothing wrong with."""
    number = st.sampled_from([-50, -0.5, 0, 3, 20.5, 40, 60, 61.5, 1e7, float("nan"), None, "4"])
    polygon = st.lists(number, min_size=4, max_size=9) | st.just(SQUARE)
    values = {
        "id": st.sampled_from([1, 2, 0, -1, 2.0, "1", None, 2**70]),
        "image_id": st.sampled_from([1, 2, 1.0, None]),
        "category_id": st.sampled_from([3, 4, 3.0, True]),
        "iscrowd": st.sampled_from([0, 1, 2, True, None]),
        "area": st.sampled_from([100, 0, 1e9, -1, "9", float("nan")]),
        "bbox": st.lists(number, min_size=3, max_size=5) | st.just([10, 10, 10, 10]),
        "segmentation": st.lists(polygon, max_size=3),
    }
    one = st.fixed_dictionaries({}, optional=values).map(lambda change: {**SOUND, **change})
    spoilt = data.draw(st.lists(one, min_size=1, max_size=6))
    images = {1: {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}}
    names = {"image": {1: 1}, "category": {3: 3}}
    passed = screen(spoilt, KnownImages({1: 0}, np.array([[60.0, 40.0]])), {3}).sound
    for entry, sound in zip(spoilt, passed, strict=True):
        mender = Mender(Ledger("strict"), images, names, {"image": {}, "category": {}})
        mended = mender.mend(entry, "", twice=False)
        assert sound or repr(entry) != repr(SOUND)
        if sound:
            assert mender.ledger.faults == []
            assert mended is entry


def test_takes_no_annotation_at_all(content: dict[str, Any]) -> None:
    content["annotations"] = []
    assert check_annotations(content).content["annotations"] == []
