"""Parallel coordinates as inline SVG: one upright axis a setting, one line a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.charts import WIDTH, figure, log_ticks, nice_ticks, number, rule, text

_TOP, _BOTTOM, _HEIGHT = 44, 24, 320
_SIDE = 96  # room for tick labels beside the first and the last axis


@dataclass(frozen=True)
class Axis:
    """An upright axis.

    Attributes:
        name: Above it.
        ticks: Value to place, 0 at the bottom and 1 at the top.
        places: Place of each trial.
    """

    name: str
    ticks: Sequence[tuple[str, float]]
    places: Sequence[float]


def axis(name: str, values: Sequence[Any], distribution: Mapping[str, Any] | None = None) -> Axis:
    """An axis for the values that trials had of one setting.

    Args:
        name: Of the setting.
        values: One a trial.
        distribution: As `sweep.space` has it; None for a figure that was measured.
    """
    kind, given = next(iter((distribution or {"uniform": None}).items()))
    if kind == "choice":
        last = max(len(given) - 1, 1)
        at = {str(value): index / last for index, value in enumerate(given)}
        return Axis(name, list(at.items()), [at.get(str(value), 0.0) for value in values])
    low, high = given or (min(values), max(values))
    if kind == "log_uniform":
        marks = [tick for tick in log_ticks(low, high, 5) if low <= tick <= high]
        scale = math.log(high / low) or 1.0
        place = {mark: math.log(mark / low) / scale for mark in marks}
        return Axis(name, _marked(place), [math.log(value / low) / scale for value in values])
    marks = nice_ticks(low, high)
    if given is None:
        low, high = marks[0], marks[-1]
    place = {mark: (mark - low) / ((high - low) or 1.0) for mark in marks if low <= mark <= high}
    return Axis(name, _marked(place), [(value - low) / ((high - low) or 1.0) for value in values])


def _marked(places: Mapping[float, float]) -> list[tuple[str, float]]:
    return [(number(value), place) for value, place in places.items()]


def parallel_chart(
    axes: Sequence[Axis], names: Sequence[str], best: int | None, *, width: int = WIDTH
) -> Markup:
    """Lines of all trials across the axes, the best one strong.

    The last axis is the figure: its place also decides how dark a line is.

    Args:
        axes: Two at least, each with a place a trial.
        names: Of the trials.
        best: Index of the best trial.
        width: Of the chart.
    """
    if len(axes) < 2 or not names:
        return Markup("")
    step = (width - 2 * _SIDE) / (len(axes) - 1)
    across = [_SIDE + index * step for index in range(len(axes))]
    order = sorted(range(len(names)), key=lambda trial: (trial == best, axes[-1].places[trial]))
    parts = [_trial(axes, across, trial, names[trial], trial == best) for trial in order]
    parts += [
        part for one, x in zip(axes, across, strict=True) for part in _axis(one, x, x == across[-1])
    ]
    title = f"{axes[-1].name} of {len(names)} trials by {', '.join(one.name for one in axes[:-1])}"
    return figure(parts, width, _HEIGHT, title, [])


def _height(place: float) -> float:
    return round(_HEIGHT - _BOTTOM - place * (_HEIGHT - _TOP - _BOTTOM), 1)


def _trial(
    axes: Sequence[Axis], across: Sequence[float], trial: int, name: str, best: bool
) -> Markup:
    points = [(x, _height(one.places[trial])) for one, x in zip(axes, across, strict=True)]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    opacity = 1 if best else 0.25 + 0.6 * axes[-1].places[trial]
    template = Markup(
        '<path class="line s{}" style="opacity:{:.2f}" d="{}"><title>{}</title></path>'
    )
    return template.format(2 if best else 1, opacity, path, name)


def _axis(one: Axis, x: float, last: bool) -> list[Markup]:
    parts = [
        rule("axis", x, _height(0), x, _height(1)),
        text("name", x, _TOP - 22, one.name.rpartition(".")[2]),
    ]
    for label, place in one.ticks:
        y = _height(place)
        side, anchor = (9, "start") if last else (-9, "end")
        parts += [rule("axis", x - 4, y, x + 4, y), text("tick", x + side, y + 4, label, anchor)]
    return parts
