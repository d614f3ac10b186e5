from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.prepare.depth import Depths, sentences


@pytest.fixture
def depths() -> Depths:
    found = Depths()
    found.add(Path("a"), "int16", np.array([0, 4000], np.uint16))
    found.add(Path("b"), "int16", np.array([10, 15], np.uint16))
    found.add(Path("c"), "int16", np.array([7, 7], np.uint16))
    found.add(Path("d"), "float", np.array([-2, 2], np.float32))
    return found


def test_one_range_a_kind_for_all(depths: Depths) -> None:
    assert depths.ranges() == {"int16": [0, 4096], "float": [-2, 2]}
    assert Depths().ranges() == {}
    assert list(sentences(depths.ranges())) == [
        "16-bit pictures: 0 to 4096 becomes 0 to 255 in all of them",
        "floating-point pictures: -2 to 2 becomes 0 to 255 in all of them",
    ]


def test_what_would_be_black_is_no_fault_if_it_is_of_one_value(depths: Depths) -> None:
    ranges = depths.ranges()
    assert [depths.dark(Path(name), ranges) is not None for name in "abcde"] == [
        False, True, False, False, False,
    ]  # fmt: skip
    assert "go from 10 to 15, which is black where 0 to 4096" in str(depths.dark(Path("b"), ranges))
