"""Run-length masks of another size than their picture: mended where the box tells how."""

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
    for box in (BOX, small):  # the box in the picture's frame, or in the mask's
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
