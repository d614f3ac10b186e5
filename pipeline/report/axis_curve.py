"""A study's curve: scores over the one number that it varies, with their intervals as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from condinst.metrics import WORDS
from pipeline.charts import WIDTH, Series, line_chart, number
from pipeline.report.collect import Record
from pipeline.report.words import NONE, count, percent, span

_HALF = 480  # two panels side by side


@dataclass(frozen=True)
class CurveView:
    """A curve and its numbers.

    Attributes:
        note: How to read the bands.
        panels: Title and chart, one for each horizontal axis.
        columns: Heads of the table.
        rows: Its cells, one row a variant, in order of the axis.
    """

    note: str
    panels: list[tuple[str, Markup]]
    columns: list[str]
    rows: list[list[str]]


def curve_view(study: Record, comparison: Record) -> CurveView | None:
    """The curve of a compared study; None where it varies no single number.

    Args:
        study: Its part of ``comparison.json``.
        comparison: All of it, for the confidence and the cost of annotations.
    """
    axis, variants = study.get("axis"), study.get("variants") or {}
    tasks = [
        task
        for task in WORDS
        if task != "bbox" and any(_level(one, task) for one in variants.values())
    ]
    if not axis or not tasks:
        return None
    values: Mapping[str, float] = axis["values"]
    ordered = sorted((name for name in values if name in variants), key=lambda name: values[name])
    hours = {
        name: cost["hours"] for name in ordered if (cost := variants[name].get("annotation") or {})
    }
    width = _HALF if hours else WIDTH
    scores = " and ".join(f"{WORDS[task]} AP" for task in tasks)
    panels = [
        (f"{scores} over {label}", _chart(variants, tasks, places, label, width))
        for label, places in ((axis["key"], values), ("hours of annotation", hours))
        if places
    ]
    return CurveView(
        note=_note(comparison, bool(hours)),
        panels=[(title[:1].upper() + title[1:], chart) for title, chart in panels],
        columns=[
            axis["key"],
            *[f"{WORDS[task]} AP" for task in tasks],
            *(["masks drawn", "boxes drawn", "hours"] if hours else []),
        ],
        rows=[_row(values[name], variants[name], tasks, bool(hours)) for name in ordered],
    )


def _level(variant: Record, task: str) -> Record | None:
    return ((variant.get("levels") or {}).get(task) or {}).get("AP")


def _chart(
    variants: Mapping[str, Record],
    tasks: Sequence[str],
    places: Mapping[str, float],
    label: str,
    width: int,
) -> Markup:
    lines = []
    for tone, task in enumerate(tasks, start=1):
        known = sorted(
            (x, level) for name, x in places.items() if (level := _level(variants[name], task))
        )
        lines.append(
            Series(
                f"{WORDS[task]} AP",
                [(x, level["estimate"]) for x, level in known],
                tone,
                band=[(level["low"], level["high"]) for _, level in known],
            )
        )
    return line_chart(lines, x_label=label, y_label="AP, percent", height=320, width=width)


def _row(value: float, variant: Record, tasks: Sequence[str], annotated: bool) -> list[str]:
    cells = [number(value)]
    for task in tasks:
        level = _level(variant, task)
        cells.append(
            f"{percent(level['estimate'])} ({span(level['low'], level['high'])})" if level else NONE
        )
    if annotated:
        cost = variant.get("annotation")
        cells += (
            [count(cost["masks"]), count(cost["boxes"]), f"{cost['hours']:,.1f}"]
            if cost
            else [NONE] * 3
        )
    return cells


def _note(comparison: Record, annotated: bool) -> str:
    parts = [
        f"Bands are {comparison.get('confidence', 0.95):.0%} intervals of each variant's own mean, "
        "over images and seeds. They may overlap where the paired differences above are told from "
        "zero."
    ]
    if annotated:
        mask, box = (f"{comparison[key]:g} s" for key in ("mask_seconds", "box_seconds"))
        parts.append(
            f"Annotation: {mask} for an object's mask, which gives its box, and {box} for a box "
            "alone (compare.mask_seconds and compare.box_seconds), times the objects of the "
            "training set."
        )
    return " ".join(parts)
