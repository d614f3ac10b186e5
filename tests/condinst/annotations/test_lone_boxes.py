"""Boxes without masks, and sides that disagree in no known way: said for all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from condinst.annotations.checks import check_annotations

WIDTH, HEIGHT = 640, 480
BOXES = ([30, 60, 90, 120], [450, 15, 120, 90], [280, 150, 270, 135], [590, 380, 40, 80])


def checked(change: Callable[[list[float]], list[float]], mask: Any = None) -> Any:
    """Under `repair`; four images with a box each."""
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "bbox": change(list(box)),
         **({} if mask is None else {"segmentation": mask(box)})}
        for k, box in enumerate(BOXES, 1)
    ]  # fmt: skip
    images = [
        {"id": k, "file_name": f"{k}.jpg", "width": WIDTH, "height": HEIGHT}
        for k in range(1, len(BOXES) + 1)
    ]
    categories = [{"id": 1, "name": "thing"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return check_annotations(content, "repair")


def share(box: list[float], whole: float = 1.0) -> list[float]:
    return [side * whole / (HEIGHT if k % 2 else WIDTH) for k, side in enumerate(box)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (share, "4 of 4 (100%) are shares of their images"),
        (lambda box: share(box, 100), "4 of 4 (100%) are percent of width and height"),
        (
            lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]],
            "4 of 4 (100%) are corners x0, y0, x1, y1, since 3 leave their image",
        ),
    ],
)
def test_boxes_alone_in_another_frame(change: Any, message: str) -> None:
    (doubt,) = checked(change).fatal
    assert doubt.startswith(f"boxes without masks: {message}")
    assert doubt.endswith("write them as x, y, width, height in pixels")


def test_boxes_alone_in_pixels() -> None:
    found = checked(lambda box: box)
    assert found.fatal == []
    assert [entry["bbox"] for entry in found.content["annotations"]] == list(BOXES)


def outline(box: list[float], factor: float = 1.0) -> list[list[float]]:
    x, y, w, h = (factor * side for side in box)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def test_all_in_an_unknown_unit() -> None:
    found = checked(lambda box: [4 * side for side in box], lambda box: outline(box, 4))
    (doubt,) = found.fatal
    assert doubt.startswith("4 of 4 outlines (100%) reach far beyond their images")


def test_masks_row_by_row_do_not_bend_the_boxes() -> None:
    def rows(box: list[int]) -> dict[str, Any]:
        x, y, w, h = box
        counts = [y * WIDTH + x, *[w, WIDTH - w] * (h - 1), w]
        return {"size": [HEIGHT, WIDTH], "counts": [*counts, WIDTH * HEIGHT - sum(counts)]}

    (doubt,) = checked(lambda box: box, rows).fatal
    assert doubt.startswith("4 of 4 boxes (100%) lie elsewhere than their masks")


def test_a_list_too_many_and_a_size_too_few_have_one_meaning() -> None:
    found = checked(lambda box: box, lambda box: [outline(box)])
    assert [entry["segmentation"] for entry in found.content["annotations"]] == [
        outline(box) for box in BOXES
    ]

    def without_size(box: list[int]) -> dict[str, Any]:
        x, y, w, h = box
        counts = [x * HEIGHT + y, *[h, HEIGHT - h] * (w - 1), h]
        return {"counts": [*counts, WIDTH * HEIGHT - sum(counts)]}

    found = checked(lambda box: box, without_size)
    assert len(found.content["annotations"]) == 4
    assert {fault.kind for fault in found.faults} >= {"mask notation"}
