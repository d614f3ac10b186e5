from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condinst.errors import UserError
from condinst.evaluation import backends
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.scores import NUMBERS

PUBLISHED = {"bbox": "fakebbox100", "segm": "fakesegm100"}
AWKWARD = (
    {},
    {"noise": 0.02},
    {"misses": 1.0, "false_alarms": 0.0},
    {"images": 3, "false_alarms": 40.0},
    {"images": 1},
)


def published_lines(text: str, task: str) -> list[str]:
    """The twelve values that COCO printed for a task."""
    part = text.split(f"type={task}")[1].split("----")[0]
    return re.findall(r"\] = (\S+)", part)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pycocotools", *backends.TRUSTED])
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_published_check(shared_dir: Path, backend: str, task: str) -> None:
    folder = shared_dir / "data" / "evaluator"
    scores = evaluate_coco(
        folder / "instances_val2014_100.json",
        folder / f"instances_val2014_{PUBLISHED[task]}_results.json",
        backend=backend,
        tasks=(task,),
    )
    shown = [f"{scores.metrics[task][name] / 100:.3f}" for name in NUMBERS]
    assert shown == published_lines((folder / "val2014_fake_eval_res.txt").read_text(), task)
    first = {"bbox": ["0.505", "0.697", "0.573"], "segm": ["0.320", "0.562", "0.299"]}
    assert shown[:3] == first[task]


@pytest.mark.parametrize("kind", range(len(AWKWARD)))
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("backend", backends.TRUSTED)
def test_fast_evaluator_passes_the_parity_gate(
    make_case: Callable[..., Any], backend: str, seed: int, kind: int
) -> None:
    """All 24 numbers are the reference's; they differ by the rounding of one division at most."""
    truth, detections = make_case(seed, **AWKWARD[kind])
    for limit in (100, 3):
        reference = evaluate_coco(truth, detections, backend="pycocotools", max_dets=limit)
        fast = evaluate_coco(truth, detections, backend=backend, max_dets=limit)
        for task in ("bbox", "segm"):
            assert fast.metrics[task] == pytest.approx(reference.metrics[task], abs=1e-11)
            for name, numbers in reference.per_class[task].items():
                assert fast.per_class[task][name] == pytest.approx(numbers, abs=1e-11)


def test_worked_by_hand() -> None:
    """Two objects of 40 x 40; one is found exactly, after a false alarm of higher score."""
    truth = {
        "images": [{"id": 3, "height": 100, "width": 100}],
        "categories": [{"id": 9, "name": "thing"}, {"id": 4, "name": "other"}],
        "annotations": [_box(0, 0, 0), _box(1, 50, 50)],
    }
    detections = [_found(0, 0, 0.5), _found(60, 0, 0.9)]
    scores = evaluate_coco(truth, detections, tasks=("bbox",))
    # Precision 1/2 at recalls 0 to 0.50, which are 51 of 101, at every IoU; recall 1/2.
    assert scores.metrics["bbox"]["AP"] == pytest.approx(100 * 0.5 * 51 / 101)
    assert scores.metrics["bbox"]["AR1"] == pytest.approx(0)
    assert scores.metrics["bbox"]["AR100"] == pytest.approx(50)
    assert scores.metrics["bbox"]["APm"] == scores.metrics["bbox"]["AP"]
    assert scores.metrics["bbox"]["APs"] is None
    assert scores.per_class["bbox"]["other"]["AP"] is None
    whole = next(c for c in scores.curves if c.category == "all" and c.iou == "0.50")
    assert whole.precision[50] == pytest.approx(0.5)
    assert whole.precision[51] == 0


def test_no_detections_and_no_objects(make_case: Callable[..., Any]) -> None:
    truth, _ = make_case(0)
    for backend in ("pycocotools", *backends.TRUSTED):
        scores = evaluate_coco(truth, [], backend=backend)
        assert scores.metrics["segm"]["AP"] == scores.metrics["bbox"]["AR100"] == 0
        nothing = evaluate_coco({**truth, "annotations": []}, [], backend=backend)
        assert set(nothing.metrics["segm"].values()) == {None}
        assert nothing.curves == ()


def test_mask_area_decides_the_size_of_masks(make_case: Callable[..., Any]) -> None:
    """A box beside the mask, as our own results have it, changes nothing for masks."""
    truth, detections = make_case(1)
    without = [{k: v for k, v in entry.items() if k != "bbox"} for entry in detections]
    both = evaluate_coco(truth, detections, tasks=("segm",))
    assert both.metrics == evaluate_coco(truth, without, tasks=("segm",)).metrics


def test_input_stays_as_it_was(make_case: Callable[..., Any], tmp_path: Path) -> None:
    truth, detections = make_case(2)
    before = copy.deepcopy((truth, detections))
    scores = evaluate_coco(truth, detections)
    assert (truth, detections) == before
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    assert evaluate_coco(tmp_path / "truth.json", tmp_path / "found.json") == scores


@pytest.mark.parametrize("backend", backends.TRUSTED)
def test_fast_evaluator_stands_in_nobodys_name(make_case: Callable[..., Any], backend: str) -> None:
    evaluate_coco(*make_case(0), backend=backend)
    import pycocotools

    assert sys.modules["pycocotools"].__name__ == pycocotools.__name__ == "pycocotools"
    assert backends._classes("pycocotools")[1].__module__ == "pycocotools.cocoeval"


def test_auto_trusts_only_what_was_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"pycocotools": "2.0.11", "hotcoco": "1.3.0"}
    monkeypatch.setattr(backends, "_version", versions.get)
    assert backends.choose("auto") == ("hotcoco", "1.3.0")
    versions["hotcoco"] = "99.0"
    assert backends.choose("auto") == ("pycocotools", "2.0.11")
    del versions["hotcoco"]
    assert backends.choose("auto")[0] == "pycocotools"
    with pytest.raises(UserError, match="not installed"):
        backends.choose("hotcoco")
    with pytest.raises(UserError, match="must be one of auto, pycocotools"):
        backends.choose("coco")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "made on other data"),
        ({"category_id": 2}, "made on other data"),
        ({"score": float("nan")}, "score nan"),
    ],
)
def test_detections_that_do_not_fit(
    make_case: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    truth, detections = make_case(0)
    with pytest.raises(UserError, match=message):
        evaluate_coco(truth, [{**detections[0], **change}])


def test_files_that_do_not_fit(make_case: Callable[..., Any], tmp_path: Path) -> None:
    truth, detections = make_case(0)
    with pytest.raises(UserError, match="cannot read"):
        evaluate_coco(tmp_path / "none.json", [])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        evaluate_coco(truth, tmp_path / "bad.json")
    with pytest.raises(UserError, match="lacks annotations"):
        evaluate_coco({"images": [], "categories": []}, [])
    with pytest.raises(UserError, match="holds no images"):
        evaluate_coco({"images": [], "categories": [], "annotations": []}, [])
    with pytest.raises(UserError, match="lacks score"):
        evaluate_coco(truth, [{k: v for k, v in detections[0].items() if k != "score"}])


def _box(number: int, x: float, y: float) -> dict[str, Any]:
    box = {"id": number, "image_id": 3, "category_id": 9, "bbox": [x, y, 40, 40]}
    return {**box, "area": 1600, "iscrowd": 0}


def _found(x: float, y: float, score: float) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 9, "bbox": [x, y, 40, 40], "score": score}


def _outlined(entry: dict[str, Any]) -> dict[str, Any]:
    x, y, w, h = entry["bbox"]
    return {**entry, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


@pytest.mark.parametrize("backend", ["pycocotools", *backends.TRUSTED])
def test_objects_with_only_a_box(backend: str) -> None:
    truth = {
        "images": [{"id": 3, "height": 100, "width": 100}],
        "categories": [{"id": 9, "name": "thing"}],
        "annotations": [_outlined(_box(1, 0, 0)), _box(2, 50, 50)],
    }
    # The better one is in the box without a mask: right for boxes, left aside for masks.
    detections = [_outlined(_found(0, 0, 0.5)), _outlined(_found(50, 50, 0.9))]
    scores = evaluate_coco(truth, detections, backend=backend)
    assert scores.metrics["bbox"]["AP"] == pytest.approx(100)
    assert scores.metrics["segm"]["AP"] == pytest.approx(100)
    alone = evaluate_coco(truth, detections[1:], backend=backend)
    assert alone.metrics["segm"]["AP"] == 0
    assert alone.metrics["bbox"]["AR100"] == pytest.approx(50)
    nowhere = {**truth, "annotations": [_box(1, 0, 0), _box(2, 50, 50)]}
    boxes = evaluate_coco(nowhere, detections, backend=backend)
    assert boxes.metrics["bbox"]["AP"] == pytest.approx(100)
    assert set(boxes.metrics["segm"].values()) == {None}
