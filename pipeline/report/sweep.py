"""A sweep as the page shows it: its trials, which settings mattered, parallel coordinates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.collect import Findings, Record
from pipeline.report.parallel import axis, parallel_chart
from pipeline.report.words import several

MAIN = "segm/AP"
_MANY = 10  # trials from which shares of importance are more than a hint


@dataclass(frozen=True)
class Trial:
    """A row of the sweep's table."""

    number: int
    settings: str
    value: float | None
    steps: int | None
    state: str
    best: bool


@dataclass(frozen=True)
class SweepView:
    """A sweep ready to be shown.

    Attributes:
        metric: What was searched for.
        trials: The best first.
        note: All of it in words.
        importance: Setting and its share of the metric's variance in percent, the largest first.
        importance_note: How the shares were found.
        chart: Parallel coordinates.
    """

    metric: str
    trials: list[Trial]
    note: str
    importance: list[tuple[str, float]]
    importance_note: str
    chart: Markup


def sweep_view(found: Findings) -> SweepView | None:
    """The sweep; None where there was none."""
    if not found.sweep:
        return None
    metric = found.sweep.get("metric", MAIN)
    rows: list[Record] = found.sweep.get("trials") or []
    best = found.sweep.get("best") or {}
    trials = [
        Trial(
            int(row["number"]),
            ", ".join(f"{key} = {_short(value)}" for key, value in row["params"].items()),
            row.get("value"),
            row.get("steps"),
            row.get("error") or row["state"],
            row["number"] == best.get("number"),
        )
        for row in rows
    ]
    trials.sort(key=lambda trial: (not trial.best, trial.value is None, -(trial.value or 0)))
    note = f"{several(len(trials), 'trial')}, searched for the best {metric}."
    if best:
        note += " The best values are a ready profile in outputs/sweep/best.yaml."
    shares: Mapping[str, float] = found.sweep.get("importance") or {}
    chart = _chart(rows, found.sweep, best.get("number"))
    importance = sorted(((key, 100 * share) for key, share in shares.items()), key=lambda x: -x[1])
    return SweepView(metric, trials, note, importance, _importance_note(found.sweep), chart)


def _importance_note(sweep: Record) -> str:
    trials = sum(row.get("value") is not None for row in sweep.get("trials") or [])
    note = (
        f"Share of the variance of {sweep.get('metric', MAIN)} over {several(trials, 'trial')} "
        f"that each setting explains, by {sweep.get('importance_by')}; a trial that was stopped "
        "early counts with its last figure."
    )
    return note + (" So few trials give a hint at most." if trials < _MANY else "")


def _chart(rows: list[Record], sweep: Record, best: int | None) -> Markup:
    """Settings from left to right, the metric last; trials without a figure are left out."""
    space: Mapping[str, Record] = sweep.get("space") or {}
    kept = [
        row for row in rows if row.get("value") is not None and set(space) <= set(row["params"])
    ]
    if not kept or not space:
        return Markup("")
    axes = [axis(key, [row["params"][key] for row in kept], how) for key, how in space.items()]
    axes.append(axis(sweep.get("metric", MAIN), [row["value"] for row in kept]))
    names = [f"trial {row['number']}: {row['value']:.2f}, {row['state']}" for row in kept]
    numbers = [row["number"] for row in kept]
    return parallel_chart(axes, names, numbers.index(best) if best in numbers else None)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
