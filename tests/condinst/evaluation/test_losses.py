"""Each kind of error alone, and the published check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from condinst.evaluation.losses import KINDS, lost_ap

IMAGES = [{"id": k, "file_name": f"{k}.jpg", "height": 100, "width": 100} for k in (1, 2)]
CATEGORIES = [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}]


def thing(image: int, category: int, x: float, **more: Any) -> dict[str, Any]:
    """A square of 20 pixels."""
    corners = [x, 10, x + 20, 10, x + 20, 30, x, 30]
    box = {"image_id": image, "category_id": category, "bbox": [x, 10, 20, 20]}
    return {**box, "segmentation": [corners], **more}


def truth() -> dict[str, Any]:
    entries = [thing(1, 1, 10), thing(2, 1, 10), thing(1, 2, 60), thing(2, 2, 60)]
    made = [{**one, "id": k, "area": 400, "iscrowd": 0} for k, one in enumerate(entries, start=1)]
    return {"images": IMAGES, "categories": CATEGORIES, "annotations": made}


RIGHT = [thing(1, 1, 10, score=0.9), thing(2, 1, 10, score=0.9), thing(1, 2, 60, score=0.9)]
LAST = {"image": 2, "category": 2, "x": 60}  # of the objects, found in another way each time


@pytest.mark.parametrize(
    ("kind", "more", "counts"),
    [
        ("Miss", [], {"Miss": 1}),
        # the object that is found wrongly is no missed one
        ("Cls", [thing(2, 1, 60, score=0.8)], {"Cls": 1}),
        ("Loc", [thing(2, 2, 72, score=0.8)], {"Loc": 1}),
        ("Both", [thing(2, 1, 72, score=0.95)], {"Both": 1, "Miss": 1}),
        ("Bkg", [thing(2, 2, 60, score=0.8), thing(1, 2, 80, score=0.95)], {"Bkg": 1}),
        ("Dupe", [thing(2, 2, 60, score=0.8), thing(1, 2, 61, score=0.85)], {"Dupe": 1}),
    ],
)
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_each_kind_alone(
    task: str, kind: str, more: list[dict[str, Any]], counts: dict[str, int]
) -> None:
    found = lost_ap(truth(), [*RIGHT, *more], task=task)
    assert {name: number for name, number in found.counts.items() if number} == counts
    assert found.gains[kind] > 0
    assert found.ap50 + found.gains[kind] <= 100 + 1e-9
    assert found.ap50 < 100


def test_without_errors_nothing_is_lost() -> None:
    found = lost_ap(truth(), [*RIGHT, thing(2, 2, 60, score=0.8)])
    assert found.ap50 == pytest.approx(100)
    assert set(found.gains.values()) == {0.0}
    assert set(found.counts.values()) == {0}


def test_one_missed_object_of_two_by_hand() -> None:
    """Class 2: recall 0.5 at precision 1 is 51 of 101 points, so AP50 = (100 + 50.5) / 2."""
    found = lost_ap(truth(), RIGHT)
    assert found.ap50 == pytest.approx((100 + 100 * 51 / 101) / 2)
    assert found.gains["Miss"] == pytest.approx(100 - found.ap50)


def test_nothing_detected() -> None:
    found = lost_ap(truth(), [])
    assert found.ap50 == 0
    assert found.counts["Miss"] == 4
    assert set(found.counts) == set(found.gains) == set(KINDS)


def test_ap50_is_the_published_one(shared_dir: Path) -> None:
    folder = shared_dir / "data/evaluator"
    content = json.loads((folder / "instances_val2014_100.json").read_text())
    given = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    found = lost_ap(content, given)
    assert round(found.ap50 / 100, 3) == 0.562
    assert found.gains["Cls"] > found.gains["Dupe"]
