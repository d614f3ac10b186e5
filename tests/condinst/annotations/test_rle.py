from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_tools

from condinst.annotations import rle


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70), st.floats(0, 1))
def test_reads_what_pycocotools_writes(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    coded = mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = rle.run_lengths(coded["counts"])
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    assert (values.reshape(height, width, order="F") == mask).all()
    assert rle.problem(coded, height, width) == (None if mask.any() else "its mask is empty")


def test_compresses_plain_counts_as_the_same_mask() -> None:
    plain = {"size": [2, 3], "counts": [1, 2, 3]}
    assert rle.problem(plain, 2, 3) is None
    decoded = mask_tools.decode({"size": [2, 3], "counts": rle.compress(plain)})
    assert decoded.tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([1, 2], "covers 3 of 6"),
        ([7, -1], "negative run"),
        ([1.5, 4.5], "not whole"),
        ("\x7f\x7f", "no run-length text"),
        ("P", "end within a number"),
        ("PPPPPPPPPPPP0", "more than 35 bits"),
        (None, "lacks size or counts"),
        ("", "covers 0 of 6"),
        ([6], "empty"),
    ],
)
def test_names_what_is_wrong(counts: object, reason: str) -> None:
    found = rle.problem({"size": [2, 3], "counts": counts}, 2, 3)
    assert found is not None
    assert reason in found


def test_refuses_another_size() -> None:
    assert "of size [2, 3]" in (rle.problem({"size": [2, 3], "counts": [6]}, 3, 2) or "")
