"""Bad input of every kind under every policy; docs/bad-input.md shows the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pipeline import bad_input
from tests.pipeline.bad_input import CASES, Case

if TYPE_CHECKING:
    from pipeline.params import Params


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_each_policy_does_what_it_should(
    case: Case,
    params: Params,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = bad_input.run(case, tmp_path, params)
    row = bad_input.row(case, outcomes)
    print(row)
    words = tuple(found.word for found in outcomes.values())
    assert words == case.expected, outcomes
    assert case.message in row
    assert row in (repository / "docs/bad-input.md").read_text().splitlines(), (
        "python -m benchmarks.bad_input prints the table"
    )
    for found in outcomes.values():
        if found.content is None:
            continue
        _require_sound(found.content)
        if case.check is not None and found.word != "dropped":
            monkeypatch.chdir(tmp_path)
            case.check(found.content)


def _require_sound(content: bad_input.Record) -> None:
    """What goes on to training and to evaluators is as COCO's tools expect it."""
    from condinst.annotations.checks import check_annotations

    again = check_annotations(content, "strict")
    assert [fault for fault in again.faults if fault.action != "kept"] == []
    assert again.fatal == []
    ids = [entry["id"] for entry in content["annotations"]]
    assert len(set(ids)) == len(ids)


def test_polygons_that_cross_themselves_fill_by_even_and_odd() -> None:
    from pycocotools import mask

    coded = mask.frPyObjects([bad_input._STAR], bad_input.HEIGHT, bad_input.WIDTH)
    filled = mask.decode(mask.merge(coded))
    assert filled[10:17, 24].all(), "a point of the star"
    assert not filled[20:27, 24].any(), "its middle, which the outline goes around twice"


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda k: k - 1, lambda k: -k, lambda k: 2**62 + k])
def test_all_evaluators_take_the_ids_that_are_left(
    tmp_path: Path, change: Callable[[int], int]
) -> None:
    from condinst.annotations.checks import check_annotations
    from condinst.evaluation.coco import evaluate_coco

    data = bad_input.make(tmp_path / "pictures")
    for kind in ("image", "category"):
        bad_input._renamed_ids(kind, change)(data)
    truth = check_annotations(data.train, "repair").content
    keys = ("image_id", "category_id", "segmentation", "bbox")
    found = [{**{key: e[key] for key in keys}, "score": 0.9} for e in truth["annotations"]]
    for backend in ("pycocotools", "hotcoco"):
        scores = evaluate_coco(truth, found, backend=backend)
        assert scores.metrics["segm"]["AP"] == pytest.approx(100)
