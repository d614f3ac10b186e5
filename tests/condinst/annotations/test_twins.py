from __future__ import annotations

import copy
from typing import Any

import pytest
from pycocotools import mask as mask_tools

from condinst.annotations.checks import Picture, check_annotations

SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]


def thing(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 900,
        "bbox": [10, 10, 30, 30], "segmentation": [SQUARE], **values,
    }  # fmt: skip


def checked(*annotations: dict[str, Any], policy: str = "repair", images: int = 1) -> Any:
    content = {
        "images": [
            {"id": k, "file_name": f"{k}.jpg", "height": 64, "width": 96}
            for k in range(1, images + 1)
        ],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    return check_annotations(copy.deepcopy(content), policy)


def coded() -> dict[str, Any]:
    mask = mask_tools.merge(mask_tools.frPyObjects([SQUARE], 64, 96))
    return {"size": [64, 96], "counts": mask["counts"].decode()}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"segmentation": [SQUARE[2:] + SQUARE[:2]]},
        {"segmentation": [[*SQUARE, *SQUARE[:2]]]},
        {"segmentation": coded()},
        {"segmentation": [coded()]},
        {"bbox": [0, 0, 0, 0], "area": -1},
    ],
    ids=["equal", "turned", "closed", "coded", "coded in a list", "of another box"],
)
def test_one_of_two_is_kept(other: dict[str, Any]) -> None:
    found = checked(thing(5), thing(6, **other))
    assert [entry["id"] for entry in found.content["annotations"]] == [5]
    assert found.faults[-1].kind == "object listed twice"
    assert "those of annotation 5" in found.faults[-1].reason
    assert checked(thing(5), thing(6), policy="strict").faults[0].action == "refused"
    assert len(checked(thing(5), thing(6), policy="drop").content["annotations"]) == 1


def test_others_stay() -> None:
    moved = [value + 0.6 for value in SQUARE]
    things = (
        thing(1),
        thing(2, category_id=2),
        thing(3, image_id=2),
        thing(4, segmentation=[moved], bbox=[10.6, 10.6, 30, 30]),
        # the same corners, another shape
        thing(5, segmentation=[[10, 10, 40, 10, 40, 40]], area=450),
    )
    found = checked(*things, images=2)
    assert (len(found.content["annotations"]), found.faults) == (5, [])


def test_crowds_may_be_alike_and_many_are_found_in_a_walk() -> None:
    crowd = {"iscrowd": 1, "segmentation": coded()}
    assert len(checked(thing(1, **crowd), thing(2, **crowd)).content["annotations"]) == 2
    many = [thing(k, image_id=1 + k % 70, id=1 + k) for k in range(140)]
    found = checked(*many, images=70)
    assert [entry["id"] for entry in found.content["annotations"]] == list(range(1, 71))


def test_pictures_of_one_content_are_united() -> None:
    content = {
        "images": [
            {"id": k, "file_name": f"{k}.jpg", "height": 64, "width": 96} for k in (1, 2, 3)
        ],
        "annotations": [thing(1), thing(2, image_id=2), thing(3, image_id=2, category_id=2),
                        thing(4, image_id=3)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }  # fmt: skip
    digests = ["x", "x", None]

    def look(images: list[Any]) -> list[Picture]:
        return [
            Picture(((96, 64),), digest=digest) for digest, _ in zip(digests, images, strict=True)
        ]

    for policy in ("repair", "drop"):
        found = check_annotations(copy.deepcopy(content), policy, look)
        assert [image["id"] for image in found.content["images"]] == [1, 3]
        objects = [(entry["id"], entry["image_id"]) for entry in found.content["annotations"]]
        assert objects == [(1, 1), (3, 1), (4, 3)]
        assert [fault.kind for fault in found.faults] == [
            "images of one content", "object listed twice",
        ]  # fmt: skip
