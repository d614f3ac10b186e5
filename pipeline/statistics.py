"""What a dataset holds: counts, sizes, classes, as numbers and as a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

SIDES = (8, 16, 32, 64, 128, 256, 512)  # of a square of an object's area, pixels

_SMALL, _LARGE = 32**2, 96**2  # COCO's bounds of area

Record = dict[str, Any]


def statistics(content: Record, refused: int) -> Record:
    """Counts of one split."""
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    objects = [entry for entry in content["annotations"] if not entry["iscrowd"]]
    per_image = Counter(entry["image_id"] for entry in objects)
    per_category = Counter(names[entry["category_id"]] for entry in objects)
    areas = [entry["area"] for entry in objects]
    images = len(content["images"])
    spread = Counter(per_image.get(image["id"], 0) for image in content["images"])
    return {
        "images": images,
        "objects": len(objects),
        "crowds": len(content["annotations"]) - len(objects),
        "empty_images": spread[0],
        "refused": refused,
        "sizes": {
            "small": sum(area < _SMALL for area in areas),
            "medium": sum(_SMALL <= area < _LARGE for area in areas),
            "large": sum(area >= _LARGE for area in areas),
        },
        "per_category": {name: per_category[name] for _, name in sorted(names.items())},
        "objects_per_image": {str(count): spread[count] for count in sorted(spread)},
    }


def sides(checked: Mapping[str, Record]) -> Iterator[tuple[Any, ...]]:
    """Objects of each split by the side of a square of their area, in doublings."""
    counts = [
        Counter(
            sum(entry["area"] >= side**2 for side in SIDES)
            for entry in content["annotations"]
            if not entry["iscrowd"]
        )
        for content in checked.values()
    ]
    labels = [f"{low} to {high}" for low, high in zip((0, *SIDES), SIDES, strict=False)]
    for place, label in enumerate([*labels, f"{SIDES[-1]} or more"]):
        yield (label, *(count[place] for count in counts))


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
        "  small, medium, large": lambda entry: " ".join(
            f"{count:,}" for count in entry["sizes"].values()
        ),
        "crowd regions": lambda entry: entry["crowds"],
        "objects an image: mean, most": _an_image,
        "images without objects": lambda entry: entry["empty_images"],
        "left out (faults.json)": lambda entry: entry["refused"],
    }
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
