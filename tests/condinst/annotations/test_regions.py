"""Objects of val that are left out: finding them is not punished."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from condinst.annotations.checks import check_annotations
from condinst.evaluation.coco import evaluate_coco

SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]
OTHER = [50, 10, 80, 10, 80, 40, 50, 40]


def thing(number: int, corners: list[int], **values: Any) -> dict[str, Any]:
    box = [corners[0], corners[1], 30, 30]
    return {
        "id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 900, "bbox": box,
        "segmentation": [corners], **values,
    }  # fmt: skip


def checked(second: dict[str, Any], policy: str = "repair", *, regions: bool = True) -> Any:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 64, "width": 96}],
        "annotations": [thing(1, SQUARE), second],
        "categories": [{"id": 1, "name": "a"}],
    }
    return check_annotations(copy.deepcopy(content), policy, regions=regions)


def ap(truth: Any) -> tuple[float | None, ...]:
    """Of a model that finds both, the second with more confidence."""
    found = [
        {**thing(0, corners), "score": score} for corners, score in ((SQUARE, 0.5), (OTHER, 0.9))
    ]
    metrics = evaluate_coco(truth, found, backend="pycocotools").metrics
    return metrics["bbox"]["AP"], metrics["segm"]["AP"]


LOST = [
    ("repair", {"segmentation": "none"}),
    ("repair", {"segmentation": [[1, 2]]}),
    ("repair", {"segmentation": {"size": [64, 96], "counts": "~"}}),
    ("repair", {"iscrowd": 2}),
    ("repair", {"unread": "line 7: is a box"}),
    ("drop", {"bbox": [0, 0, 0, 0]}),
    ("drop", {"id": 1}),
]


@pytest.mark.parametrize(("policy", "change"), LOST)
def test_what_is_left_out_is_ignored(policy: str, change: dict[str, Any]) -> None:
    second = thing(2, OTHER, **change)
    found = checked(second, policy)
    first, region = found.content["annotations"]
    assert (first["id"], region["iscrowd"], region["bbox"]) == (1, 1, [50, 10, 30, 30])
    assert region["id"] > 1
    assert (len(found.faults), found.faults[0].action, found.ignored) == (1, "dropped", 1)
    assert found.faults[0].reason.endswith("; where it is, nothing is counted")
    assert ap(found.content) == pytest.approx((100, 100))
    again = check_annotations(found.content, "strict")
    assert [fault.action for fault in again.faults if fault.action != "kept"] == []
    background = checked(second, policy, regions=False)
    assert len(background.content["annotations"]) == 1
    assert ap(background.content) == pytest.approx((50, 50), abs=1)


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": 9},
        {"category_id": 9},
        {"segmentation": [], "bbox": [0, 0, 0, 0]},
        {"segmentation": [], "bbox": [200, 10, 30, 30]},
        {"segmentation": [], "bbox": None},
    ],
)
def test_without_a_place_there_is_no_region(change: dict[str, Any]) -> None:
    found = checked(thing(2, OTHER, **change))
    assert (len(found.content["annotations"]), found.ignored) == (1, 0)


def test_strict_makes_none() -> None:
    found = checked(thing(2, OTHER, segmentation="none"), "strict")
    assert (found.ignored, found.faults[0].action) == (0, "refused")
