from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from condinst.evaluation import backends
from condinst.evaluation.accumulating import accumulate, draw_numbers, group_events
from condinst.evaluation.inputs import load_detections, load_ground_truth
from condinst.evaluation.matching import match_detections
from condinst.evaluation.quality import image_qualities
from condinst.evaluation.scores import NUMBERS, Accumulated, summarise


def reference(truth: Any, detections: Any, task: str, limit: int) -> Accumulated:
    loaded = load_ground_truth(truth)
    entries = load_detections(detections, loaded, task)
    return backends.accumulate("pycocotools", task, loaded, entries, limit)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools_to_the_last_bit(
    make_case: Callable[..., Any], seed: int, task: str
) -> None:
    options = ({}, {"noise": 0.02}, {"images": 3, "false_alarms": 40.0})[seed % 3]
    truth, detections = make_case(seed, **options)
    for limit in (100, 3):
        matches = match_detections(truth, detections, task=task, max_dets=limit)
        weights = np.ones(len(matches.image_ids), dtype=int)
        own = accumulate(group_events(matches), weights)
        expected = reference(truth, detections, task, limit)
        np.testing.assert_array_equal(own.precision, expected.precision)
        np.testing.assert_array_equal(own.recall, expected.recall)
        assert summarise(own) == summarise(expected)


def test_weights_equal_images_that_stand_there_several_times(
    make_case: Callable[..., Any],
) -> None:
    truth, detections = make_case(4, images=8, ties=False)
    copies = np.array([0, 2, 1, 3, 0, 1, 1, 0])
    matches = match_detections(truth, detections)
    weighted = accumulate(group_events(matches), copies)
    expected = reference(*_repeat(truth, detections, copies), "segm", 100)
    np.testing.assert_allclose(weighted.precision, expected.precision, atol=1e-12)
    np.testing.assert_allclose(weighted.recall, expected.recall, atol=1e-12)


@pytest.mark.slow
def test_draws_equal_one_weighting_each(make_case: Callable[..., Any]) -> None:
    matches = match_detections(*make_case(5))
    events = group_events(matches)
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=7)
    numbers = draw_numbers(events, draws, workers=1)
    np.testing.assert_array_equal(numbers, draw_numbers(events, draws, workers=3))
    for weights, of_draw in zip(draws, numbers, strict=True):
        found = accumulate(events, weights)
        for k, row in enumerate(of_draw):
            alone = Accumulated(found.precision[:, :, k : k + 1], found.recall[:, k : k + 1])
            expected = summarise(alone)
            for name, value in zip(NUMBERS, row, strict=True):
                if expected[name] is None:
                    assert np.isnan(value)
                else:
                    assert value * 100 == pytest.approx(expected[name], abs=1e-10)


def test_without_detections_or_objects(make_case: Callable[..., Any]) -> None:
    truth, _ = make_case(0)
    none = match_detections(truth, [])
    assert summarise(accumulate(group_events(none), np.ones(12)))["AP"] == 0
    nothing = match_detections({**truth, "annotations": []}, [])
    assert summarise(accumulate(group_events(nothing), np.ones(12)))["AP"] is None
    draws = np.ones((2, 12), dtype=int)
    assert np.isnan(draw_numbers(group_events(nothing), draws)).all()


def test_quality_of_single_images(make_case: Callable[..., Any]) -> None:
    """An image's quality falls with false alarms, also of a category that it does not hold."""
    truth, _ = make_case(6)
    present = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    keys = ("image_id", "category_id", "bbox", "segmentation")
    perfect = [{**{key: entry[key] for key in keys}, "score": 0.5} for entry in present]
    image = present[0]["image_id"]
    alarm = {**perfect[0], "category_id": 7, "score": 0.9}
    clean = image_qualities(match_detections(truth, perfect))
    spoilt = image_qualities(match_detections(truth, [*perfect, alarm]))
    assert [row.image_id for row in clean] == list(range(1, 13))
    for before, after in zip(clean, spoilt, strict=True):
        objects = sum(entry["image_id"] == before.image_id for entry in present)
        assert before.objects == objects
        assert before.ap == (pytest.approx(100) if objects else None)
        assert (after != before) == (before.image_id == image)
    spoilt_ap = spoilt[image - 1].ap
    assert spoilt_ap is not None
    assert spoilt_ap < 99


def _repeat(truth: Any, detections: Any, copies: np.ndarray) -> tuple[Any, Any]:
    """Each image as often as `copies` says, under ids of its own."""
    images, annotations, found = [], [], []
    for image in sorted(truth["images"], key=lambda entry: entry["id"]):
        for _ in range(copies[image["id"] - 1]):
            number = len(images) + 1
            images.append({**image, "id": number})
            for kept, entries in ((annotations, truth["annotations"]), (found, detections)):
                kept += [
                    {**e, "image_id": number, "id": len(kept) + 1 + i}
                    for i, e in enumerate(e for e in entries if e["image_id"] == image["id"])
                ]
    return {**truth, "images": images, "annotations": annotations}, found
