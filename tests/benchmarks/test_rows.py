"""Ratios, shares and tables of rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks._rows import Row, best_rates, share_of_limit, show, time_text, times_faster
from tests.benchmarks.simple import LIMITS

BEST = best_rates([*LIMITS, *LIMITS[:1]])


def test_the_slower_of_operations_and_bytes_is_the_limit() -> None:
    assert best_rates(LIMITS) == BEST == {"cpu fp32": 2e9, "cpu memory": 1e9}
    row = Row("", "", seconds=[3.0, 1.0, 2.0], flops=1e9)  # 0.5 of 2 s
    assert share_of_limit(row, BEST) == 0.25
    both = Row("", "", seconds=[2.0], flops=1e9, moved=1e9)  # the bytes: 1 of 2 s
    assert share_of_limit(both, BEST) == 0.5


@pytest.mark.parametrize(
    "row",
    [
        Row("", "", seconds=[1.0]),  # not counted
        Row("", "", flops=1e9),  # no time
        Row("", "", seconds=[1.0], flops=1e9, limit="cuda fp32"),  # not measured here
    ],
)
def test_no_share_is_invented(row: Row) -> None:
    assert share_of_limit(row, BEST) is None


def test_times_faster_by_medians() -> None:
    base = Row("", "base", seconds=[4.0, 100.0, 5.0])
    others = {"base": base, "refused": Row("", "refused", refused="why")}
    assert times_faster(Row("", "x", seconds=[2.0], against="base"), others) == 2.5
    assert times_faster(Row("", "x", seconds=[2.0], against="refused"), others) is None
    assert times_faster(Row("", "x", against="base"), others) is None
    assert times_faster(base, others) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (123.4, "123 s"),
        (1.0, "1.00 s"),
        (0.0123, "12.3 ms"),
        (4.5e-6, "4.50 us"),
        (2e-3, "2.00 ms"),
    ],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_tables_leave_out_empty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [
            Row("one", "base", [0.5, 0.5, 0.25], peak=2_000_000),
            Row("one", "fast", [0.25], "base", ">= 2", 1_000_000, share=0.5),
            Row("two", "none", refused="it has no GPU"),
        ]
    )
    assert capsys.readouterr().out == (
        "\n**one**\n\n"
        "|  | median | fastest to slowest | times faster | of the limit | peak extra | of peak |"
        " goal |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| base | 500 ms | 250 ms to 500 ms |  |  | 2 MB |  |  |\n"
        "| fast | 250 ms |  | 2.00 | 50% | 1 MB | 0.50 | >= 2 |\n"
        "\n**two**\n\n"
        "|  | note |\n| --- | --- |\n| none | not on this machine: it has no GPU |\n"
    )


def test_what_came_before_a_failure_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Iterator[Row]:
        yield Row("one", "first", [1.0])
        yield Row("two", "second", [1.0])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        show(broken())
    assert "| first | 1.00 s |" in (printed := capsys.readouterr().out)
    assert printed.count("| second |") == 1
    show([])
    assert capsys.readouterr().out == ""
