"""What a dataset holds: counts, sizes, classes, as numbers and as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

if TYPE_CHECKING:
    from condinst.data.index import Index

SIDES = (8, 16, 32, 64, 128, 256, 512)  # of a square of an object's area, pixels

_SMALL, _LARGE = 32**2, 96**2  # COCO's bounds of area

Record = dict[str, Any]


def statistics(index: Index, refused: int, ignored: int = 0) -> Record:
    """Counts of one split.

    Args:
        index: the split.
        refused: what was left out.
        ignored: of that, what stays as crowd regions.
    """
    names = [entry["name"] for entry in index.categories]
    areas, labels = _objects(index)
    per_category = np.bincount(labels, minlength=len(names)).tolist()
    spread = np.bincount(index.objects, minlength=1).tolist()
    small, large = int((areas < _SMALL).sum()), int((areas >= _LARGE).sum())
    return {
        "images": len(index),
        "objects": len(areas),
        "masks": int(index.masked[index.numbers[:, 2] == 0].sum()),
        "crowds": len(index.numbers) - len(areas) - ignored,
        "empty_images": spread[0],
        "refused": refused,
        **({"ignored": ignored} if ignored else {}),
        "sizes": {"small": small, "medium": len(areas) - small - large, "large": large},
        "per_category": dict(zip(names, per_category, strict=True)),
        "objects_per_image": {str(count): images for count, images in enumerate(spread) if images},
    }


def sides(indexes: Iterable[Index]) -> Iterator[tuple[Any, ...]]:
    """Objects of each split by the side of a square of their area, in doublings."""
    bounds = np.square(SIDES)
    counts = [
        np.bincount(np.searchsorted(bounds, _objects(index)[0], "right"), minlength=len(SIDES) + 1)
        for index in indexes
    ]
    labels = [f"{low} to {high}" for low, high in zip((0, *SIDES), SIDES, strict=False)]
    for place, label in enumerate([*labels, f"{SIDES[-1]} or more"]):
        yield (label, *(int(count[place]) for count in counts))


def _objects(index: Index) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Areas and classes of what is no crowd region."""
    single = index.numbers[:, 2] == 0
    return index.areas[single], index.numbers[single, 1]


def write_csv(path: Path, header: list[str], rows: Any) -> None:
    """A table for plots."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def table(summary: Record) -> Table:
    """All splits beside each other, for the terminal."""
    shown = Table(title=f"{summary['name']}: {len(summary['categories'])} classes")
    splits = summary["splits"]
    shown.add_column("")
    for split in splits:
        shown.add_column(split, justify="right")
    rows = {
        "images": lambda entry: entry["images"],
        "objects": lambda entry: entry["objects"],
        "  with a mask": lambda entry: entry["masks"],
        "  small, medium, large": lambda entry: " ".join(
            f"{count:,}" for count in entry["sizes"].values()
        ),
        "crowd regions": lambda entry: entry["crowds"],
        "objects an image: mean, most": _an_image,
        "images without objects": lambda entry: entry["empty_images"],
        "left out (faults.json)": lambda entry: entry["refused"],
    }
    if any(entry.get("ignored") for entry in splits.values()):
        rows["  of that, regions to ignore"] = lambda entry: entry.get("ignored", 0)
    for label, value in rows.items():
        cells = [value(entry) for entry in splits.values()]
        shown.add_row(label, *(f"{c:,}" if isinstance(c, int) else c for c in cells))
    for category in summary["categories"] if len(summary["categories"]) <= 12 else []:
        name = category["name"]
        shown.add_row(f"  {name}", *(f"{e['per_category'][name]:,}" for e in splits.values()))
    return shown


def _an_image(split: Record) -> str:
    most = max(map(int, split["objects_per_image"]), default=0)
    return f"{split['objects'] / max(split['images'], 1):.1f} {most}"
