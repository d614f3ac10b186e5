from __future__ import annotations

import copy
from typing import Any

import pytest

from condinst.data import check_annotations

SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


@pytest.fixture
def content() -> dict[str, Any]:
    annotation = {
        "id": 5,
        "image_id": 1,
        "category_id": 3,
        "bbox": [10, 10, 10, 10],
        "area": 100,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    }
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "square"}],
    }


def test_leaves_what_is_sound_as_it_is(content: dict[str, Any]) -> None:
    result = check_annotations(copy.deepcopy(content))
    assert result.content == content
    assert result.faults == ()
    assert result.renumbered == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 2}, "no usable image 2"),
        ({"category_id": "3"}, "no usable category '3'"),
        ({"bbox": [10, 10, 0, 10]}, "is empty"),
        ({"bbox": [10, 10, 5]}, "four finite numbers"),
        ({"bbox": [10, 10, float("nan"), 5]}, "four finite numbers"),
        ({"bbox": [60, 10, 5, 5]}, "outside its image"),
        ({"segmentation": []}, "no polygon"),
        ({"segmentation": None}, "no segmentation"),
        ({"segmentation": [[1, 2, 3, 4]]}, "4 numbers"),
        ({"segmentation": [[*SQUARE, 1]]}, "9 numbers"),
        ({"segmentation": [["a"] * 6]}, "no list of finite numbers"),
        ({"segmentation": [[0, 0, 1e30, 0, 5, 5]]}, "pixels from the corner"),
        ({"segmentation": {"size": [40, 60], "counts": "%"}}, "damaged"),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"id": "five"}, "whole number"),
        ({"area": -1}, "area"),
    ],
)
def test_leaves_out_what_is_faulty(
    content: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    content["annotations"][0] |= change
    result = check_annotations(content)
    assert result.content["annotations"] == []
    (fault,) = result.faults
    assert (fault.kind, fault.id) == ("annotation", change.get("id", 5))
    assert reason in fault.reason


def test_keeps_the_sound_polygons_of_an_annotation(content: dict[str, Any]) -> None:
    content["annotations"][0]["segmentation"] = [SQUARE, [1, 2]]
    result = check_annotations(content)
    assert result.content["annotations"][0]["segmentation"] == [SQUARE]
    assert "1 of its polygons" in result.faults[0].reason


def test_finds_duplicates_and_what_refers_to_what_is_left_out(content: dict[str, Any]) -> None:
    content["annotations"].append(dict(content["annotations"][0]))
    content["images"] += [{"id": 1, "file_name": "b.jpg", "height": 4, "width": 4}]
    content["images"] += [{"id": 2, "file_name": "c.jpg", "height": 0, "width": 4}]
    content["annotations"].append(content["annotations"][0] | {"id": 6, "image_id": 2})
    content["categories"].append({"id": 4})
    result = check_annotations(content)
    assert [(fault.kind, fault.id) for fault in result.faults] == [
        ("category", 4),
        ("image", 1),
        ("image", 2),
        ("annotation", 5),
        ("annotation", 6),
    ]
    assert [entry["id"] for entry in result.content["annotations"]] == [5]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "b/../../a.jpg", "..\\a.jpg"])
def test_takes_no_image_outside_of_its_folder(content: dict[str, Any], name: str) -> None:
    content["images"].append({"id": 2, "file_name": name, "height": 40, "width": 60})
    (fault,) = check_annotations(content).faults
    assert (fault.kind, fault.id) == ("image", 2)
    assert "leads out of the folder" in fault.reason


def test_fills_in_from_the_mask(content: dict[str, Any]) -> None:
    for key in ("bbox", "area", "iscrowd"):
        del content["annotations"][0][key]
    (entry,) = check_annotations(content).content["annotations"]
    assert entry["bbox"] == [10, 10, 10, 10]
    assert (entry["area"], entry["iscrowd"]) == (100, 0)


def test_gives_ids_that_the_evaluator_can_match(content: dict[str, Any]) -> None:
    first = content["annotations"][0]
    unnamed = {key: value for key, value in first.items() if key != "id"}
    content["annotations"] = [first | {"id": 0}, first | {"id": 1}, unnamed]
    result = check_annotations(content)
    assert [entry["id"] for entry in result.content["annotations"]] == [2, 1, 3]
    assert result.renumbered == 2


def test_takes_no_annotation_at_all(content: dict[str, Any]) -> None:
    content["annotations"] = []
    assert check_annotations(content).content["annotations"] == []
