"""The dataset as the page shows it: counts, classes, sizes of objects."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.charts import histogram
from pipeline.report.collect import Findings, Record
from pipeline.report.pictures import Split
from pipeline.report.scores import objects_per_class
from pipeline.report.words import count, several

COLUMNS = (
    ("images", "images"),
    ("objects", "objects"),
    ("crowds", "crowd regions"),
    ("empty_images", "images without objects"),
    ("refused", "annotations refused"),
)
_MANY = 24  # classes that fit side by side
_SIZES = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class SplitRow:
    """A row of the table of splits."""

    name: str
    values: list[str]


def split_rows(found: Findings) -> tuple[list[str], list[SplitRow]]:
    """Headings and rows of the table of splits; columns that no split has are left out."""
    splits: dict[str, Record] = found.dataset.get("splits") or {}
    columns = [
        (key, title)
        for key, title in COLUMNS
        if any(entry.get(key) is not None for entry in splits.values())
    ]
    rows = [
        SplitRow(
            name, [count(entry[key]) if entry.get(key) is not None else "" for key, _ in columns]
        )
        for name, entry in splits.items()
    ]
    return [title for _, title in columns], rows


def data_charts(found: Findings, val: Split | None) -> list[tuple[str, Markup]]:
    """Objects by class in both splits, and sizes of validation objects."""
    counts = {name: objects_per_class(found, name) for name in ("train", "val")}
    counts = {name: by_class for name, by_class in counts.items() if by_class}
    charts = []
    if counts:
        total: Counter[str] = Counter()
        for by_class in counts.values():
            total.update(by_class)
        shown = [name for name, _ in total.most_common(_MANY)]
        title = "Objects by class"
        if len(total) > _MANY:
            title += f": the {_MANY} most frequent of {several(len(total), 'class')}"
        bars = [(name, [by_class.get(name, 0) for by_class in counts.values()]) for name in shown]
        names = [{"train": "training", "val": "validation"}[name] for name in counts]
        chart = histogram(bars, names, x_label="class", y_label="objects")
        charts.append((title, chart))
    if val is not None:
        charts.append(("Sizes of validation objects", _sizes(val)))
    return [(title, chart) for title, chart in charts if chart]


def _sizes(split: Split) -> Markup:
    """Objects by the side of a square of their area, in doublings."""
    bins: Counter[int] = Counter()
    for entries in split.truth.values():
        for entry in entries:
            if not entry.get("iscrowd"):
                side = math.sqrt(max(float(entry.get("area", 0)), 1e-9))
                bins[sum(side >= limit for limit in _SIZES)] += 1
    labels = [f"< {_SIZES[0]}"]
    labels += [f"{a} to {b}" for a, b in itertools.pairwise(_SIZES)]
    labels.append(f"≥ {_SIZES[-1]}")
    last = max(bins, default=0)
    bars = [(label, [bins[index]]) for index, label in enumerate(labels[: last + 1])]
    return histogram(
        bars, ["objects"], x_label="square root of the mask's area, pixels", y_label="objects"
    )
