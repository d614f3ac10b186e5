"""Masks in another notation that have one meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_tools

from condinst.annotations.checks import check_annotations
from condinst.annotations.notation import tidy

SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]
TEXT = "Zd0n0R1000000000000000000000000000000000000000000000000000000000f_3"
RUNS = [650, *[30, 34] * 29, 30, 3608]
RLE = {"size": [64, 96], "counts": TEXT}


@pytest.mark.parametrize(
    "mask",
    [
        {**RLE, "counts": f"b'{TEXT}'"},
        {**RLE, "counts": f'b"{TEXT}"'},
        [RLE],
        [{**RLE, "counts": f"b'{TEXT}'"}],
        {**RLE, "counts": [float(run) for run in RUNS]},
        {**RLE, "counts": [str(run) for run in RUNS]},
        {**RLE, "counts": " ".join(map(str, RUNS))},
        {**RLE, "counts": str(RUNS)},
        {**RLE, "size": ["64", 96.0]},
        [{**RLE, "size": [64.0, 96.0], "counts": RUNS}],
        '{"size": [64, 96], "counts": "' + TEXT + '"}',
        [[str(value) for value in SQUARE]],
        [str(value) for value in SQUARE],
        [" ".join(map(str, SQUARE))],
        [str(SQUARE)],
        str([SQUARE]),
        [[f"{value:.1f}" for value in SQUARE]],
        [RLE, RLE],
        [SQUARE, RLE],
    ],
    ids=str,
)
def test_one_right_answer_is_found(mask: Any) -> None:
    entry = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 900,
        "bbox": [10, 10, 30, 30], "segmentation": mask,
    }  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 64, "width": 96}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "thing"}],
    }
    found = check_annotations(content, "repair")
    assert {(fault.kind, fault.action) for fault in found.faults} <= {
        ("mask notation", "repaired"), ("polygon layout", "repaired"),
    }  # fmt: skip
    (kept,) = found.content["annotations"]
    mask = kept["segmentation"]
    if isinstance(mask, list):
        assert mask == [SQUARE]
    else:
        pixels = np.zeros((64, 96))
        pixels[10:40, 10:40] = 1
        coded = mask if isinstance(mask["counts"], str) else mask_tools.frPyObjects(mask, 64, 96)
        assert (mask_tools.decode(coded) == pixels).all()
    assert check_annotations(found.content, "strict").faults == []
    assert check_annotations(content, "strict").faults[0].action == "refused"
    assert check_annotations(content, "drop").content["annotations"] == []


@pytest.mark.parametrize(
    "mask",
    [
        None, [], {}, "no mask", "[", "b'x", [SQUARE], RLE, {**RLE, "counts": RUNS},
        {**RLE, "counts": "b'\\xff'"}, {**RLE, "counts": [1.5, 2]}, {**RLE, "counts": ["a"]},
        [["a", "b"]], [RLE, {**RLE, "counts": "~"}], [["1e400"] * 6], {"counts": "1 2", "size": 3},
    ],
    ids=str,
)  # fmt: skip
def test_what_has_none_is_left_as_it_is(mask: Any) -> None:
    found, _ = tidy(mask, 64, 96)
    assert found == mask or found == {"counts": [1, 2], "size": 3}
