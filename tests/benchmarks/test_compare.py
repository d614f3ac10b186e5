"""Two files side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._compare import compare, verdict
from benchmarks._results import Results
from benchmarks._rows import Row
from tests.benchmarks.simple import MACHINE, VERSIONS, results


def compared(folder: Path, a: Results, b: Results) -> None:
    a.write(folder / "a.json")
    b.write(folder / "b.json")
    compare(folder / "a.json", folder / "b.json")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 1.1, 1.2], [1.3, 1.4, 1.5], "**slower**"),
        ([1.0, 1.1, 1.2], [1.15, 1.4, 1.5], ""),  # the ranges meet
        ([1.0, 1.01, 1.02], [1.03, 1.04, 1.05], ""),  # by less than 5%
        ([1.3, 1.4, 1.5], [1.0, 1.1, 1.2], "faster"),
        ([1.0], [1.1], ""),  # once each: 15%
        ([1.0], [1.2, 1.2, 1.2], "**slower**"),
        ([], [1.0], ""),
    ],
)
def test_slower_is_beyond_the_noise(a: list[float], b: list[float], expected: str) -> None:
    assert verdict(Row("", "", a), Row("", "", b)) == expected


def test_ratios_and_what_one_file_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = results(
        {
            "gpu": [
                Row("t", "same", [1.0] * 3),
                Row("t", "worse", [1.0] * 3),
                Row("t", "old", [1]),
            ],
            "targets": [Row("gone", "x", [1.0])],
        }
    )
    b = results(
        {
            "gpu": [
                Row("t", "same", [1.0] * 3),
                Row("t", "worse", [2.0] * 3),
                Row("t", "new", [1]),
            ],
            "inference": [Row("added", "y", refused="no bf16")],
        }
    )
    compared(tmp_path, a, b)
    printed = capsys.readouterr().out
    for line in (
        "| cpu fp32 | 2.0 G/s | 2.0 G/s | 1.00 |  |",
        "| same | 1.00 s | 1.00 s | 1.00 |  |",
        "| worse | 1.00 s | 2.00 s | 2.00 | **slower** |",
        "| old | 1.00 s |  |  | only in A |",
        "| new |  | 1.00 s |  | only in B |",
        "| x | 1.00 s |  |  | only in A |",
        "| y |  |  |  | only in B |",
    ):
        assert line in printed
    assert printed.endswith("Slower in B: 1 rows; in one file alone: 4.\n")
    assert "Other machines" not in printed


def test_what_else_differs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"gpu": [Row("t", "x", [1.0])]}
    other = results(
        {"gpu": [Row("t", "x", refused="no")]}, MACHINE._replace(threads=1),
        {**VERSIONS, "torch": "2.13.0"}, error="killed",
    )  # fmt: skip
    compared(tmp_path, results(rows), other)
    printed = capsys.readouterr().out
    names = "intel-xeon-cpu-2-1ghz-avx512-2-cores, intel-xeon-cpu-2-1ghz-avx512-1-cores"
    assert f"Other machines ({names}): ratios tell of them, too." in printed
    assert "gpu: torch 2.14.1 and 2.13.0." in printed
    assert "gpu broke off in B: killed." in printed
    assert "| x | 1.00 s |  |  | not there in B |" in printed
    compared(tmp_path, results({}), results({}))
    assert "Slower in B: 0 rows; in one file alone: 0." in capsys.readouterr().out
