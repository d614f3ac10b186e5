"""The twelve numbers, the classes and the precision-recall curves, as the page shows them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from markupsafe import Markup

from condinst.evaluation.losses import KINDS
from condinst.metrics import MEANINGS, WORDS
from pipeline.charts import Series, line_chart
from pipeline.report.collect import Findings, Record

_CURVE_NAMES = {"0.50": "IoU 0.50", "0.75": "IoU 0.75", "0.50:0.95": "mean of IoU 0.50 to 0.95"}


@dataclass(frozen=True)
class Score:
    """A number in percent and the interval it may lie in, where known."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ScoreRow:
    """One of the twelve numbers for every task, in the order of `WORDS`."""

    name: str
    meaning: str
    scores: list[Score]


@dataclass(frozen=True)
class ClassRow:
    """A class and how well it is found."""

    name: str
    objects: int | None
    mask: float | None
    boundary: float | None
    mask50: float | None
    box: float | None


def score(found: Findings, task: str, name: str) -> Score:
    """A number with its interval."""
    value = (found.metrics.get(task) or {}).get(name)
    interval = ((found.evaluation.get("intervals") or {}).get(task) or {}).get(name)
    if value is None or not interval:
        return Score(value)
    return Score(value, interval["low"], interval["high"])


def score_rows(found: Findings) -> list[ScoreRow]:
    """The twelve numbers; none where nothing was evaluated."""
    if not found.metrics:
        return []
    return [
        ScoreRow(name, meaning, [score(found, task, name) for task in WORDS])
        for name, meaning in MEANINGS.items()
    ]


@dataclass(frozen=True)
class ErrorRow:
    """A kind of error: what it is, how often, and what it costs in points of AP50."""

    meaning: str
    mask: float
    mask_count: int
    box: float
    box_count: int


def error_rows(found: Findings) -> list[ErrorRow]:
    """Kinds of errors, the dearest first; none where they were not sorted."""
    mask, box = found.errors.get("segm"), found.errors.get("bbox")
    if not mask or not box:
        return []
    rows = [
        ErrorRow(meaning, *(one[part][kind] for one in (mask, box) for part in ("gains", "counts")))
        for kind, meaning in KINDS.items()
    ]
    return sorted(rows, key=lambda row: -row.mask)


def class_rows(found: Findings) -> list[ClassRow]:
    """All classes, the best masks first, those without objects last."""
    mask, edge, box = (found.per_class.get(task) or {} for task in WORDS)
    objects = objects_per_class(found, "val")
    rows = [
        ClassRow(
            name,
            objects.get(name),
            (mask.get(name) or {}).get("AP"),
            (edge.get(name) or {}).get("AP"),
            (mask.get(name) or {}).get("AP50"),
            (box.get(name) or {}).get("AP"),
        )
        for name in dict.fromkeys([*mask, *box])
    ]
    return sorted(rows, key=lambda row: (row.mask is None, -(row.mask or 0), row.name))


def objects_per_class(found: Findings, split: str) -> dict[str, int]:
    """Objects of each class in a split, where `prepare` counted them."""
    entry: Record = (found.dataset.get("splits") or {}).get(split) or {}
    counts = entry.get("per_category") or entry.get("categories") or {}
    if isinstance(counts, list):
        return {row["name"]: int(row.get("instances", row.get("count", 0))) for row in counts}
    return {
        name: int(value["instances"] if isinstance(value, dict) else value)
        for name, value in counts.items()
    }


def pr_charts(found: Findings) -> list[tuple[str, Markup]]:
    """For masks and boxes, precision over recall, mean over the classes."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in found.pr_curves:
        category = row.get("class") or row.get("category") or "all"
        if category == "all" and row.get("precision"):
            point = float(row["recall"]), float(row["precision"])
            lines[row["task"], row["iou"]].append(point)
    charts = []
    for task, word in WORDS.items():
        series = [
            Series(_CURVE_NAMES.get(iou, f"IoU {iou}"), points, tone)
            for tone, (iou, points) in enumerate(
                ((iou, points) for (of, iou), points in lines.items() if of == task), start=1
            )
        ]
        chart = line_chart(
            series,
            x_label="recall",
            y_label="precision",
            x_range=(0, 1),
            y_range=(0, 1),
            height=330,
            width=480,
        )
        if chart:
            charts.append((word, chart))
    return charts
