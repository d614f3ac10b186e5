from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle_tools

from condinst.evaluation.boundary import (
    band_width,
    boundary_iou,
    contour_band,
    lesser_ious,
)
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.matching import match_detections
from condinst.evaluation.scores import NUMBERS

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "boundary_ap.json").read_text())


def runs(pixels: np.ndarray) -> dict[str, Any]:
    return rle_tools.encode(np.asfortranarray(pixels.astype(np.uint8)))


def square(left: int, top: int, side: int, size: tuple[int, int] = (60, 80)) -> dict[str, Any]:
    pixels = np.zeros(size)
    pixels[top : top + side, left : left + side] = 1
    return runs(pixels)


def band_pixels(mask: dict[str, Any]) -> np.ndarray:
    """The band in the image, (height, width)."""
    band = contour_band(mask)
    whole = np.zeros(mask["size"], dtype=np.uint8)
    w, h = band.inside.shape
    whole[band.top : band.top + h, band.left : band.left + w] = band.inside.T
    assert whole.sum() == band.area
    return whole


@pytest.mark.parametrize("case", ["ellipses", "polygons"])
def test_equals_what_a_published_implementation_gave(case: str) -> None:
    stored = RECORDED["cases"][case]
    scores = evaluate_coco(stored["annotations"], stored["detections"], tasks=("boundary",))
    assert scores.metrics["boundary"] == pytest.approx(stored["numbers"], abs=1e-9)
    masks = evaluate_coco(stored["annotations"], stored["detections"], tasks=("segm",))
    assert masks.metrics["segm"]["AP"] > stored["numbers"]["AP"] + 1


def test_equals_it_on_the_published_check_of_coco(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "evaluator"
    scores = evaluate_coco(
        folder / "instances_val2014_100.json",
        folder / "instances_val2014_fakesegm100_results.json",
        tasks=("boundary",),
    )
    numbers = RECORDED["cases"]["val2014"]["numbers"]
    assert scores.metrics["boundary"] == pytest.approx(numbers, abs=1e-9)


def test_width_is_two_percent_of_the_diagonal() -> None:
    assert band_width((480, 640)) == 16
    assert band_width((60, 80)) == 2
    assert band_width((300, 400)) == 10
    assert band_width((3, 4)) == 1  # 0.1 pixels


def test_worked_by_hand() -> None:
    """Squares of side 20 in 60 x 80, so bands two pixels wide: 20 x 20 - 16 x 16 = 144 pixels."""
    one = contour_band(square(10, 10, 20))
    assert (one.left, one.top, one.inside.shape, one.area) == (10, 10, (20, 20), 144)
    assert boundary_iou(one, one) == 1
    # Two pixels to the right, only the horizontal bars overlap: 2 bars of 18 x 2, and beside them
    # nothing, since the left bar of one ends where that of the other begins.
    moved = contour_band(square(12, 10, 20))
    shared = 2 * 18 * 2
    assert boundary_iou(one, moved) == pytest.approx(shared / (2 * 144 - shared))
    assert boundary_iou(one, contour_band(square(40, 10, 20))) == 0


def test_the_image_border_is_an_edge() -> None:
    assert contour_band(square(0, 0, 20)).area == 144
    whole = contour_band(runs(np.ones((60, 80))))
    assert whole.area == 60 * 80 - 56 * 76


def test_empty_and_thin_masks() -> None:
    empty = contour_band(runs(np.zeros((60, 80))))
    assert empty.area == 0
    assert boundary_iou(empty, empty) == 0
    assert boundary_iou(empty, contour_band(square(5, 5, 4))) == 0
    assert contour_band(square(79, 59, 1)).area == 1
    assert contour_band({"size": [0, 0], "counts": b""}).area == 0
    # 2 zeros, 3 ones, 0 zeros, 4 ones: seven ones in a row
    split = rle_tools.frPyObjects({"size": [60, 80], "counts": [2, 3, 0, 4, 4791]}, 60, 80)
    assert contour_band(split).inside.shape == (1, 7)
    assert contour_band(split).area == 7


@pytest.mark.parametrize("seed", range(6))
def test_equals_erosion_of_the_whole_image(seed: int) -> None:
    """Against OpenCV's erosion by single pixels, on blots with holes that touch the border."""
    rng = np.random.default_rng(seed)
    h, w = (int(v) for v in rng.integers(20, 200, 2))
    pixels = (cv2.GaussianBlur(rng.random((h, w)), (0, 0), 6) > 0.5).astype(np.uint8)
    padded = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    for _ in range(max(round(0.02 * np.hypot(h, w)), 1)):
        padded = cv2.erode(padded, np.ones((3, 3), np.uint8))
    np.testing.assert_array_equal(band_pixels(runs(pixels)), pixels - padded[1:-1, 1:-1])


def test_lesser_of_both_but_for_crowds() -> None:
    objects = [square(10, 10, 20), square(10, 10, 20)]
    found = [square(12, 10, 20), square(30, 30, 20)]
    ious = rle_tools.iou(found, objects, [0, 1])
    before = ious.copy()
    lesser = lesser_ious(ious, found, objects, np.array([False, True]))
    assert lesser[0, 0] == pytest.approx(72 / 216)
    assert ious[0, 0] == pytest.approx(18 / 22)
    assert lesser[0, 1] == ious[0, 1] == pytest.approx(0.9)  # of the detection's own area
    np.testing.assert_array_equal(lesser[1], ious[1])
    np.testing.assert_array_equal(ious, before)
    none = np.zeros((0, 2))
    assert lesser_ious(none, [], objects, np.array([False, True])).shape == (0, 2)


def test_without_masks_there_is_no_boundary(make_case: Any) -> None:
    truth, detections = make_case(3)
    boxes = [{k: v for k, v in e.items() if k != "segmentation"} for e in truth["annotations"]]
    scores = evaluate_coco({**truth, "annotations": boxes}, detections)
    assert set(scores.metrics["boundary"].values()) == {None}
    assert scores.metrics["bbox"]["AP"] is not None
    assert evaluate_coco(truth, []).metrics["boundary"]["AP"] == 0


def test_given_matches_are_used(make_case: Any) -> None:
    truth, detections = make_case(4)
    matches = {"boundary": match_detections(truth, detections, task="boundary")}
    fresh = evaluate_coco(truth, detections, tasks=("boundary",))
    assert evaluate_coco(truth, [], tasks=("boundary",), matches=matches) == fresh
    assert list(fresh.metrics["boundary"]) == list(NUMBERS)
