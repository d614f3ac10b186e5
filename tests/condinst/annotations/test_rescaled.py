"""Images that were all resized after annotating, so that outlines are in the former pixels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_tools

from condinst.annotations.checks import Checked, Entry, ImageFile, check_annotations

WIDTH, HEIGHT = 200, 120
BOXES = ([20, 20, 160, 80], [100, 60, 80, 40], [120, 20, 60, 60], [40, 40, 100, 60])


def content() -> dict[str, Any]:
    """Four images with an object each, as they were when they were annotated."""
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "bbox": [x, y, w, h],
         "area": w * h, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        for k, (x, y, w, h) in enumerate(BOXES, 1)
    ]  # fmt: skip
    images = [
        {"id": k, "file_name": f"{k}.jpg", "width": WIDTH, "height": HEIGHT}
        for k in range(1, len(BOXES) + 1)
    ]
    categories = [{"id": 1, "name": "thing"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def checked(given: dict[str, Any], factors: list[float], policy: str = "repair") -> Checked:
    def look(images: list[Entry]) -> list[ImageFile]:
        sizes = [(round(WIDTH * f), round(HEIGHT * f)) for f in factors]
        return [ImageFile((sizes[image["id"] - 1],)) for image in images]

    return check_annotations(given, policy, look)


@pytest.mark.parametrize("factor", [0.5, 0.25, 3.5, 4])
def test_annotations_follow_their_images(factor: float) -> None:
    given = content()
    before = copy.deepcopy(given)
    found = checked(given, [factor] * 4)
    assert given == before
    (fault,) = found.faults
    assert (fault.entry, fault.kind, fault.id) == ("image", "images of another scale", "4 of 4")
    assert f"scaled by {factor:g}" in fault.reason
    for entry, box in zip(found.content["annotations"], BOXES, strict=True):
        assert entry["bbox"] == [side * factor for side in box]
        assert max(entry["segmentation"][0]) == (box[0] + box[2]) * factor
        assert entry["area"] == box[2] * box[3] * factor**2
    (fault,) = checked(given, [factor] * 4, "strict").faults
    assert fault.action == "refused"
    (stops,) = checked(given, [factor] * 4, "drop").fatal
    assert "4 of 4 images (100%)" in stops


def test_run_lengths_follow_too() -> None:
    given = content()
    for entry in given["annotations"]:
        x, y, w, h = entry["bbox"]
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        pixels[y : y + h, x : x + w] = 1
        coded = mask_tools.encode(pixels)
        entry["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": coded["counts"].decode()}
    found = checked(given, [0.5] * 4)
    assert [entry["bbox"] for entry in found.content["annotations"]] == [
        [side / 2 for side in box] for box in BOXES
    ]
    assert [entry["segmentation"]["size"] for entry in found.content["annotations"]] == [
        [HEIGHT // 2, WIDTH // 2]
    ] * 4
    covered = [int(mask_tools.area(e["segmentation"])) for e in found.content["annotations"]]
    assert covered == [w * h // 4 for _, _, w, h in BOXES]


def test_what_one_factor_does_not_explain_is_left_out() -> None:
    for factors in ([0.5, 0.25, 2, 1], [1, 1, 1, 0.5], [1, 1, 0.5, 0.5]):
        found = checked(content(), factors)
        kept = [entry["id"] for entry in found.content["images"]]
        assert kept == [k for k, factor in enumerate(factors, 1) if factor == 1]


def test_outlines_that_fit_the_files_tell_nothing() -> None:
    given = content()
    for entry in given["annotations"]:  # they were scaled, only the sizes were not
        entry["bbox"] = [side / 2 for side in entry["bbox"]]
        entry["area"] /= 4
        entry["segmentation"] = [[side / 2 for side in entry["segmentation"][0]]]
    assert checked(given, [0.5] * 4).content["images"] == []


def test_without_annotations_there_is_nothing_to_scale() -> None:
    found = checked({**content(), "annotations": []}, [0.5] * 4)
    assert {fault.kind for fault in found.faults} == {"image of another size"}
