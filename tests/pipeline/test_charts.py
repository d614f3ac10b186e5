from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from pipeline.charts import (
    Interval,
    Series,
    histogram,
    interval_chart,
    line_chart,
    log_ticks,
    nice_ticks,
    number,
)
from pipeline.report.parallel import axis, parallel_chart


def parsed(chart: Markup) -> ET.Element:
    return ET.fromstring(str(chart))


def texts(chart: Markup) -> list[str]:
    return ["".join(node.itertext()) for node in parsed(chart).iter("text")]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 97, [0, 20, 40, 60, 80, 100]),
        (-3, 12, [-5, 0, 5, 10, 15]),
        (4, 4, [4, 5, 6, 7, 8]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


def test_log_ticks_cover_the_range() -> None:
    assert log_ticks(0.3, 40) == [0.3, 1, 3, 10, 30, 100]
    assert log_ticks(0.08, 0.95) == [0.05, 0.1, 0.2, 0.5, 1]
    assert log_ticks(1.1, 3.4) == [1, 1.5, 2, 3, 4]


def test_numbers_are_short() -> None:
    assert [number(x) for x in (0, 0.25, 1200, 90000, -2, 0.00005)] == [
        "0", "0.25", "1,200", "90k", "\N{MINUS SIGN}2", "5e-5",
    ]  # fmt: skip


def test_a_line_chart_has_axes_legend_and_its_points() -> None:
    chart = line_chart(
        [Series("mask", [(0, 1.0), (10, 0.5)]), Series("box", [(0, 2.0), (10, 1.0)], tone=2)],
        x_label="step",
        y_label="loss",
    )
    assert {"step", "loss", "0", "2"} <= set(texts(chart))
    assert len(list(parsed(chart).iter("path"))) == 2
    keys = [node for node in parsed(chart).iter("span") if node.get("class") == "key"]
    assert ["".join(node.itertext()) for node in keys] == ["mask", "box"]


def test_a_band_lies_behind_its_line_and_its_points_say_their_numbers() -> None:
    band = [(20.0, 40.0), (30.0, 60.0)]
    line = Series("mask AP", [(0, 30.0), (0.5, 40.0)], band=band)
    chart = line_chart([line], x_label="share", y_label="AP")
    (area,) = parsed(chart).iter("polygon")
    corners = [tuple(map(float, pair.split(","))) for pair in area.get("points", "").split()]
    assert len(corners) == 4  # the upper ends to the right, the lower ends back
    (left, top), (right, higher), (_, lower), (_, bottom) = corners
    assert left < right
    assert higher < top < lower < bottom  # 60, 40, 30, 20
    assert {"20", "60"} <= set(texts(chart)), "the axis covers the band"
    titles = [node.text for node in parsed(chart).iter("title")]
    assert "mask AP at 0.5: 40.0, 30.0 to 60.0" in titles
    assert str(chart).index("<polygon") < str(chart).index("<path")


def test_text_in_charts_is_escaped() -> None:
    evil = '<script>alert(1)</script>&"'
    chart = line_chart([Series(evil, [(0, 1), (1, 2)])] * 2, x_label=evil, y_label=evil)
    bars = histogram([(evil, [1])], [evil], x_label=evil, y_label=evil)
    rows = interval_chart([Interval(evil, 1, 0, 2, note=evil)], x_label=evil, zero=evil)
    for one in (chart, bars, rows):
        assert "<script" not in one
        assert evil in texts(one)


@pytest.mark.parametrize("points", [[], [(0, float("nan"))], [(0, float("inf"))]])
def test_a_chart_without_a_finite_point_is_empty(points: list[tuple[float, float]]) -> None:
    assert line_chart([Series("a", points)], x_label="x", y_label="y") == ""


def test_points_that_are_not_finite_are_left_out() -> None:
    chart = line_chart([Series("a", [(0, 1), (1, float("nan")), (2, 3)])], x_label="x", y_label="y")
    assert "nan" not in chart


def test_one_point_is_a_dot_and_zero_falls_back_from_a_log_axis() -> None:
    chart = line_chart([Series("a", [(5, 0.0)])], x_label="x", y_label="y", log_y=True)
    assert len(list(parsed(chart).iter("circle"))) == 1


def test_a_histogram_draws_a_bar_a_name_and_is_empty_without_any_count() -> None:
    chart = histogram([("a", [1, 2]), ("b", [3, 0])], ["x", "y"], x_label="c", y_label="n")
    assert len(list(parsed(chart).iter("rect"))) == 4
    assert histogram([("a", [0])], ["x"], x_label="c", y_label="n") == ""
    assert histogram([], ["x"], x_label="c", y_label="n") == ""


def test_an_interval_chart_marks_zero_and_tone() -> None:
    rows = [Interval("a", 2, 1, 3, "good", "better"), Interval("b", -1, -2, 0.5)]
    chart = interval_chart(rows, x_label="points", zero="as base")
    assert {"a", "b", "as base", "better", "points"} <= set(texts(chart))
    groups = [node.get("class") for node in parsed(chart).iter("g")]
    assert groups == ["interval good", "interval neutral"]
    assert interval_chart([], x_label="points") == ""


def test_parallel_axes_place_values_between_their_ends() -> None:
    low, middle, high = axis("lr", [0.01, 0.1, 1.0], {"log_uniform": [0.01, 1.0]}).places
    assert (low, middle, high) == pytest.approx((0, 0.5, 1))
    assert axis("x", [2, 4], {"int_uniform": [0, 4]}).places == [0.5, 1.0]
    assert axis("x", ["b", "a"], {"choice": ["a", "b", "c"]}).places == [0.5, 0.0]
    assert axis("x", [8], {"choice": [8]}).places == [0.0]
    figures = axis("AP", [11.0, 19.0])
    assert all(0 <= place <= 1 for place in figures.places)
    assert axis("AP", [3.0, 3.0]).places[0] == axis("AP", [3.0, 3.0]).places[1]


def test_parallel_chart_draws_the_best_last() -> None:
    axes = [axis("a<b", [1, 2], {"uniform": [0, 4]}), axis("AP", [5.0, 9.0])]
    chart = parallel_chart(axes, ["one", "two"], 0)
    assert chart.index("<title>two</title>") < chart.index("<title>one</title>")
    assert "a&lt;b" in chart
    assert parallel_chart(axes[:1], ["one", "two"], 0) == ""
