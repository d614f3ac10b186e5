"""Charts as inline SVG: axes, grid, legend.

Colours come from the page's style sheet, so that dark mode fits. Every function returns markup that
is safe to put into a page: all text in it is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 900
_LETTER = 6.3  # average width of a digit or letter at the size of tick labels


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: In the legend; empty leaves it out of there.
        points: (x, y), in order of x.
        tone: Number of its colour in the style sheet, from 1.
        faint: Drawn thin and pale, for raw values behind a smoothed line.
        dashed: Drawn dashed.
        band: (low, high) at each point, drawn as a band behind the line, whose points get dots.
    """

    name: str
    points: Sequence[tuple[float, float]]
    tone: int = 1
    faint: bool = False
    dashed: bool = False
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Interval:
    """A row of an interval chart: an estimate and the range it may lie in."""

    label: str
    estimate: float
    low: float
    high: float
    tone: str = "neutral"
    note: str = ""


@dataclass(frozen=True)
class _Axis:
    """Maps values of one axis to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover a range, about `count` of them."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if raw <= power * m * 1.0000001)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 7) -> list[float]:
    """Round multiples of powers of ten that cover a range of positive numbers.

    They are as fine as `count` of them allow.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    chosen: list[float] = []
    for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [round(m * 10.0**power, 12) for power in powers for m in steps]
        first = max((i for i, tick in enumerate(ticks) if tick <= low * 1.0001), default=0)
        above = (i for i, tick in enumerate(ticks) if tick >= high * 0.9999)
        chosen = ticks[first : min(above, default=len(ticks) - 1) + 1]
        if len(chosen) <= count:
            break
    return chosen


def number(value: float) -> str:
    """A tick's number without needless digits; thousands set apart."""
    if value == 0:
        return "0"
    if abs(value) >= 10000:
        return f"{value / 1000:,.0f}k" if value % 1000 == 0 else f"{value:,.0f}"
    if abs(value) < 0.0001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    height: int = 300,
    width: int = WIDTH,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log_y: bool = False,
) -> Markup:
    """Lines over a common axis; empty markup where there is no finite point."""
    kept = [
        (line, [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)])
        for line in series
    ]
    kept = [(line, points) for line, points in kept if points]
    if not kept:
        return Markup("")
    xs = [x for _, points in kept for x, _ in points]
    ys = [y for _, points in kept for _, y in points]
    ys += [end for line, _ in kept for ends in line.band for end in ends]
    log_y = log_y and min(ys) > 0
    y_low, y_high = y_range or (min(ys), max(ys))
    y_ticks = log_ticks(y_low, y_high) if log_y else nice_ticks(y_low, y_high)
    x_low, x_high = x_range or (min(xs), max(xs))
    x_ticks = [t for t in nice_ticks(x_low, x_high, 6) if x_low <= t <= x_high * 1.0001]
    left = 30 + _LETTER * max(len(number(tick)) for tick in y_ticks)
    y_label += ", log scale" if log_y else ""
    y_axis = _Axis(y_ticks[0], y_ticks[-1], height - 46, 12, log_y)
    x_axis = _Axis(x_low, x_high if x_high > x_low else x_low + 1, left, width - 18)
    parts = [_grid(x_axis, y_axis, x_ticks, y_ticks, x_label, y_label)]
    parts += [_band(line, x_axis, y_axis) for line, _ in kept if line.band]
    parts += [_line(line, points, x_axis, y_axis) for line, points in kept]
    parts += [dot for line, _ in kept if line.band for dot in _dots(line, x_axis, y_axis)]
    legend = [(line.name, line.tone, line.dashed) for line, _ in kept if line.name]
    return figure(parts, width, height, f"{y_label} over {x_label}", legend)


def text(kind: str, x: float, y: float, words: str, anchor: str = "middle") -> Markup:
    """A piece of text of a kind that the style sheet knows."""
    template = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
    return template.format(kind, f"{x:g}", f"{y:g}", anchor, words)


def rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line of a kind that the style sheet knows."""
    template = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    return template.format(kind, *(f"{value:g}" for value in (x1, y1, x2, y2)))


def _grid(
    x_axis: _Axis,
    y_axis: _Axis,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
) -> Markup:
    left, right, bottom = x_axis.start, x_axis.end, y_axis.start
    parts = []
    for tick in y_ticks:
        y = y_axis.at(tick)
        parts.append(rule("grid", left, y, right, y))
        parts.append(text("tick", left - 8, y + 4, number(tick), "end"))
    for tick in x_ticks:
        x = x_axis.at(tick)
        parts.append(rule("axis", x, bottom, x, bottom + 5))
        parts.append(text("tick", x, bottom + 19, number(tick)))
    parts.append(rule("axis", left, bottom, right, bottom))
    parts.append(text("name", (left + right) / 2, bottom + 38, x_label))
    middle = (y_axis.start + y_axis.end) / 2
    turned = Markup('<g transform="translate(14 {}) rotate(-90)">{}</g>')
    parts.append(turned.format(f"{middle:g}", text("name", 0, 0, y_label)))
    return Markup("").join(parts)


def _line(
    line: Series, points: Sequence[tuple[float, float]], x_axis: _Axis, y_axis: _Axis
) -> Markup:
    low, high = sorted((y_axis.low, y_axis.high))
    places = [(x_axis.at(x), y_axis.at(min(max(y, low), high))) for x, y in points]
    kinds = ["line", f"s{line.tone}"] + ["faint"] * line.faint + ["dashed"] * line.dashed
    if len(places) == 1:
        (x, y) = places[0]
        return Markup(f'<circle class="{" ".join(kinds)}" cx="{x}" cy="{y}" r="3"/>')
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
    title = f"<title>{escape(line.name)}</title>" if line.name else ""
    return Markup(f'<path class="{" ".join(kinds)}" d="{path}">{title}</path>')


def _band(line: Series, x_axis: _Axis, y_axis: _Axis) -> Markup:
    places = [
        (x_axis.at(x), y_axis.at(low), y_axis.at(high))
        for (x, _), (low, high) in zip(line.points, line.band, strict=True)
    ]
    around = [(x, high) for x, _, high in places] + [(x, low) for x, low, _ in reversed(places)]
    corners = " ".join(f"{x:g},{y:g}" for x, y in around)
    return Markup(f'<polygon class="band s{line.tone}" points="{corners}"/>')


def _dots(line: Series, x_axis: _Axis, y_axis: _Axis) -> list[Markup]:
    """The points that were measured, each with its numbers as a tooltip."""
    template = Markup('<circle class="dot s{}" cx="{}" cy="{}" r="4"><title>{}</title></circle>')
    return [
        template.format(
            line.tone, x_axis.at(x), y_axis.at(y),
            f"{line.name} at {number(x)}: {y:.1f}, {low:.1f} to {high:.1f}",
        )
        for (x, y), (low, high) in zip(line.points, line.band, strict=True)
    ]  # fmt: skip


def histogram(
    bars: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    *,
    x_label: str,
    y_label: str,
    height: int = 260,
    width: int = WIDTH,
) -> Markup:
    """Groups of upright bars: one group a label, one bar of it a name."""
    if not bars or not any(value for _, values in bars for value in values):
        return Markup("")
    ticks = nice_ticks(0, max(value for _, values in bars for value in values), 4)
    left = 30 + _LETTER * max(len(number(tick)) for tick in ticks)
    y_axis = _Axis(0, ticks[-1], height - 46, 12)
    x_axis = _Axis(0, len(bars), left, width - 18)
    parts = [_grid(x_axis, y_axis, [], ticks, x_label, y_label)]
    slot = (x_axis.end - x_axis.start) / len(bars)
    every = max(1, math.ceil(max(len(label) for label, _ in bars) * (_LETTER + 1) / slot))
    for index, (label, values) in enumerate(bars):
        centre = x_axis.start + (index + 0.5) * slot
        parts += _group(label, values, names, centre, slot, y_axis)
        if index % every == 0:
            parts.append(text("tick", centre, y_axis.start + 19, label))
    legend = [(name, k + 1, False) for k, name in enumerate(names)] if len(names) > 1 else []
    return figure(parts, width, height, f"{y_label} by {x_label}", legend)


def _group(
    label: str,
    values: Sequence[float],
    names: Sequence[str],
    centre: float,
    slot: float,
    y_axis: _Axis,
) -> list[Markup]:
    thickness = min(slot * 0.72 / len(values), 46)
    template = Markup(
        '<rect class="bar s{}" x="{:.2f}" y="{}" width="{:.2f}" height="{:.2f}" rx="2">'
        "<title>{}</title></rect>"
    )
    return [
        template.format(
            k + 1,
            centre + (k - len(values) / 2) * thickness,
            y_axis.at(value),
            max(thickness - 1.5, 1),
            max(y_axis.start - y_axis.at(value), 0),
            f"{label}, {names[k]}: {number(value)}",
        )
        for k, value in enumerate(values)
    ]


def interval_chart(
    rows: Sequence[Interval], *, x_label: str, zero: str = "no difference", width: int = WIDTH
) -> Markup:
    """Estimates with their intervals, one a row, about a line at zero."""
    if not rows:
        return Markup("")
    parts, height = intervals(rows, x_label=x_label, zero=zero, width=width)
    return figure(parts, width, height, x_label, [])


def intervals(
    rows: Sequence[Interval], *, x_label: str, zero: str = "no difference", width: int = WIDTH
) -> tuple[list[Markup], int]:
    """The parts of an interval chart of one row or more, and its height."""
    low, high = min(0, *(row.low for row in rows)), max(0, *(row.high for row in rows))
    room = (high - low) * 0.04
    ticks = nice_ticks(low - room, high + room, 6)
    left = 24 + (_LETTER + 1.9) * max(len(row.label) for row in rows)
    right = 24 + _LETTER * max(len(row.note) for row in rows)
    bottom = 26 + 34 * len(rows)
    axis = _Axis(ticks[0], ticks[-1], left, width - right)
    parts = []
    for tick in ticks:
        x = axis.at(tick)
        parts.append(rule("grid", x, 18, x, bottom))
        parts.append(text("tick", x, bottom + 17, number(tick)))
    x = axis.at(0)
    parts += [rule("zero", x, 18, x, bottom), text("tick", x, 11, zero)]
    for index, row in enumerate(rows):
        parts.append(_interval(row, axis, 37 + 34 * index, left, width - right))
    parts.append(text("name", (axis.start + axis.end) / 2, bottom + 37, x_label))
    return parts, bottom + 46


def _interval(row: Interval, axis: _Axis, y: float, left: float, right: float) -> Markup:
    a, b = axis.at(row.low), axis.at(row.high)
    title = f"{row.label}: {row.estimate:+.2f}, {row.low:+.2f} to {row.high:+.2f}"
    parts = [
        text("rowname", left - 14, y + 4, row.label, "end"),
        rule("", a, y, b, y),
        rule("", a, y - 5, a, y + 5),
        rule("", b, y - 5, b, y + 5),
        Markup('<circle cx="{}" cy="{}" r="5"/>').format(axis.at(row.estimate), y),
        text("tick", right + 12, y + 4, row.note, "start"),
    ]
    group = Markup('<g class="interval {}"><title>{}</title>{}</g>')
    return group.format(row.tone, title, Markup("").join(parts))


def figure(
    parts: Sequence[Markup],
    width: int,
    height: float,
    title: str,
    legend: Sequence[tuple[str, int, bool]],
) -> Markup:
    """A chart of drawn parts, with a legend of (name, tone, dashed) where it has several."""
    entries = Markup("").join(
        Markup('<span class="key"><i class="s{}{}"></i>{}</span>').format(
            tone, " dashed" if dashed else "", name
        )
        for name, tone, dashed in legend
    )
    head = Markup('<div class="legend">{}</div>').format(entries) if len(legend) > 1 else Markup("")
    body = Markup("").join(parts)
    return Markup(
        '<div class="chart">{}<div class="scroll">'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></div></div>'
    ).format(head, width, round(height), title, body)
