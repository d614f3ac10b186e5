"""The dataset as the page shows it: counts, classes, sizes of objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.charts import histogram
from pipeline.report.collect import Findings, Record
from pipeline.report.scores import objects_per_class
from pipeline.report.words import count, several

COLUMNS = (
    ("images", "images"),
    ("empty_images", "without objects"),
    ("objects", "objects"),
    ("masks", "with a mask"),
    ("small", "small"),
    ("medium", "medium"),
    ("large", "large"),
    ("crowds", "crowd regions"),
    ("refused", "refused"),
)
_HALF = {"width": 480, "height": 250}
_MANY = 24  # classes that fit side by side
_CROWDED = 12  # objects an image that are counted together from here on
_SPLITS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class SplitRow:
    """A row of the table of splits."""

    name: str
    values: list[str]


def splits(found: Findings) -> dict[str, Record]:
    """What `prepare` counted in each split."""
    return found.dataset.get("splits") or {}


def split_rows(found: Findings) -> tuple[list[str], list[SplitRow]]:
    """Headings and rows of the table of splits; columns that no split has are left out."""
    flat = {name: {**entry, **(entry.get("sizes") or {})} for name, entry in splits(found).items()}
    columns = [
        (key, title)
        for key, title in COLUMNS
        if any(entry.get(key) is not None for entry in flat.values())
    ]
    rows = [
        SplitRow(
            name, [count(entry[key]) if entry.get(key) is not None else "" for key, _ in columns]
        )
        for name, entry in flat.items()
    ]
    return [title for _, title in columns], rows


def data_charts(found: Findings) -> list[tuple[str, Markup]]:
    """Objects by class, by size and by image, in both splits."""
    charts = [_classes(found), _sizes(found), _images(found)]
    return [(title, chart) for title, chart in charts if chart]


def _classes(found: Findings) -> tuple[str, Markup]:
    counts = {name: objects_per_class(found, name) for name in splits(found)}
    total: Counter[str] = Counter()
    for by_class in counts.values():
        total.update(by_class)
    shown = [name for name, _ in total.most_common(_MANY)]
    title = "Objects by class"
    if len(total) > _MANY:
        title += f": the {_MANY} most frequent of {several(len(total), 'class')}"
    bars = [(name, [by_class.get(name, 0) for by_class in counts.values()]) for name in shown]
    return title, histogram(bars, _names(found), x_label="class", y_label="objects")


def _sizes(found: Findings) -> tuple[str, Markup]:
    names = list(splits(found))
    bars = [
        (row["side"], [float(row.get(name) or 0) for name in names]) for row in found.object_sizes
    ]
    while bars and not any(bars[-1][1]):
        bars.pop()
    label = "side of a square of the mask's area, pixels"
    return "Sizes of objects", histogram(
        bars, _names(found), x_label=label, y_label="objects", **_HALF
    )


def _images(found: Findings) -> tuple[str, Markup]:
    spread: list[Counter[int]] = []
    for entry in splits(found).values():
        counter: Counter[int] = Counter()
        for objects, images in (entry.get("objects_per_image") or {}).items():
            counter[min(int(objects), _CROWDED)] += int(images)
        spread.append(counter)
    last = max((number for counter in spread for number in counter), default=-1)
    bars = [
        (
            f"{number} or more" if number == _CROWDED else str(number),
            [counter[number] for counter in spread],
        )
        for number in range(last + 1)
    ]
    chart = histogram(bars, _names(found), x_label="objects in an image", y_label="images", **_HALF)
    return "Objects in an image", chart


def _names(found: Findings) -> list[str]:
    return [_SPLITS.get(name, name) for name in splits(found)]
