"""Run-length masks of another size than their image: mended where the box tells how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_tools

from condinst.annotations.checks import check_annotations

HEIGHT, WIDTH = 64, 96
BOX = [20, 10, 40, 30]


def coded(pixels: Any) -> dict[str, Any]:
    found = mask_tools.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"].decode()}


def rectangle(height: int, width: int, box: list[float]) -> Any:
    pixels = np.zeros((height, width), np.uint8)
    x, y, w, h = map(round, box)
    pixels[y : y + h, x : x + w] = 1
    return pixels


def checked(mask: dict[str, Any], box: list[float] | None = BOX, policy: str = "repair") -> Any:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1200}
    entry |= {"segmentation": mask} | ({} if box is None else {"bbox": box})
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "thing"}],
    }
    return check_annotations(content, policy)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_of_another_scale(factor: float) -> None:
    small = [side / factor for side in BOX]
    mask = coded(rectangle(round(HEIGHT / factor), round(WIDTH / factor), small))
    for box in (BOX, small):  # the box in the image's frame, or in the mask's
        found = checked(mask, box)
        (entry,) = found.content["annotations"]
        assert (mask_tools.decode(entry["segmentation"]) == rectangle(HEIGHT, WIDTH, BOX)).all()
        assert entry["bbox"] == BOX
        assert {fault.kind for fault in found.faults} == {"RLE of another size"}
    assert checked(mask, policy="drop").content["annotations"] == []


def test_rows_and_columns_exchanged() -> None:
    right = rectangle(HEIGHT, WIDTH, BOX)
    for mask in (coded(right.T), {**coded(right), "size": [WIDTH, HEIGHT]}):
        (entry,) = checked(mask).content["annotations"]
        assert (mask_tools.decode(entry["segmentation"]) == right).all()


def test_without_an_answer_it_is_left_out() -> None:
    mask = coded(rectangle(HEIGHT // 2, WIDTH // 2, [0, 0, 5, 5]))
    for box in (BOX, None):
        assert checked(mask, box).content["annotations"] == []
    odd = coded(rectangle(HEIGHT // 2, WIDTH, [20, 5, 40, 15]))  # another shape
    assert checked(odd).content["annotations"] == []


def many(masks: list[dict[str, Any]], policy: str, **more: Any) -> Any:
    """Annotations of an image each."""
    n = len(masks)
    return check_annotations(
        {
            "images": [
                {"id": k, "file_name": f"{k}.jpg", "height": HEIGHT, "width": WIDTH}
                for k in range(1, n + 1)
            ],
            "annotations": [
                {"id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "segmentation": mask}
                | more
                for k, mask in enumerate(masks, 1)
            ],
            "categories": [{"id": 1, "name": "thing"}],
        },
        policy,
    )


@pytest.mark.parametrize("factor", [2, 4, 0.5])
def test_all_of_one_shape_are_scaled_without_boxes(factor: float) -> None:
    small = [side / factor for side in BOX]
    mask = coded(rectangle(round(HEIGHT / factor), round(WIDTH / factor), small))
    found = many([mask] * 3, "repair")
    (fault,) = [fault for fault in found.faults if fault.kind == "RLE of another size"]
    assert fault.id == "3 of 3"
    assert "3 of 3 annotations (100%), such as 1: " in fault.reason
    assert f"scaled by {factor:g}" in fault.reason
    for entry in found.content["annotations"]:
        decoded = mask_tools.decode(entry["segmentation"])
        assert np.abs(decoded.astype(int) - rectangle(HEIGHT, WIDTH, BOX)).sum() <= 200
        assert entry["bbox"] == pytest.approx(BOX, abs=3)
    (fault,) = [f for f in many([mask] * 3, "strict").faults if f.kind == "RLE of another size"]
    assert fault.action == "refused"
    (stops,) = many([mask] * 3, "drop").fatal
    assert stops.startswith("RLE of another size: 3 of 3 annotations (100%)")


def test_of_other_shapes_without_boxes_they_are_left_out() -> None:
    odd = coded(rectangle(HEIGHT // 2, WIDTH, [20, 5, 40, 15]))
    assert many([odd] * 3, "repair").content["annotations"] == []
    half = coded(rectangle(HEIGHT // 2, WIDTH // 2, [10, 5, 20, 15]))
    assert many([half, half], "repair").content["annotations"] == []  # too few to tell
    assert many([half, odd, odd, odd], "repair").content["annotations"] == []
