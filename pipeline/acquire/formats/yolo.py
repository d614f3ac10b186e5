"""YOLO-seg: a text file per image, one line per object: class, then x y of each corner.

Coordinates are fractions of the image's width and height.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from condinst.annotations import polygons
from condinst.errors import UserError
from condinst.files.text import read_text
from pipeline.acquire.formats.image_files import Problem, Reading, Thing, size_of

_SLACK = 0.01  # how far rounding may go beyond the border; `prepare` judges it
_DIGITS = 3  # of a pixel
_FRACTION = re.compile(r"\d{1,9}\.0*")  # an integer, as array tools write it


def labels_folder(images: Path) -> Path:
    """The format's usual label folder: ``images`` in the path replaced by ``labels``.

    Raises:
        UserError: no part of the path is called ``images``.
    """
    parts = list(images.parts)
    if "images" not in parts:
        raise UserError(
            f"{images} has no folder `images` in its path to replace by `labels`; set labels to "
            "the folder of the text files"
        )
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def read(image_file: Path, labels: Path, names: list[str]) -> Reading:
    """Read one image's labels; without a text file it has no objects.

    Args:
        image_file: for its size.
        labels: the text file.
        names: of the classes, by their number.
    """
    reading = Reading(size_of(image_file), labelled=labels.is_file())
    lines = read_text(labels).splitlines() if reading.labelled else []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        place = f"{labels} line {number}"
        if _FRACTION.fullmatch(fields[0]):
            reading.mended.append(
                f"{place}: the class is {fields[0]}, read as {fields[0].split('.')[0]}"
            )
            fields[0] = fields[0].split(".")[0]
        problem = _problem(fields, len(names))
        h, w = reading.size
        if problem:
            corners = _corners_of_box(fields, len(names), h, w)
            text = f"{place}: {problem}"
            thing = None if corners is None else Thing(names[int(fields[0])], [corners])
            reading.problems.append(text if thing is None else Problem(text, thing))
            continue
        corners = [
            round(float(value) * (h if k % 2 else w), _DIGITS) for k, value in enumerate(fields[1:])
        ]
        problem = polygons.problem(corners)
        if problem is not None:
            reading.problems.append(f"{labels} line {number}: {problem}")
            continue
        reading.things.append(Thing(names[int(fields[0])], [corners]))
    return reading


def _corners_of_box(fields: list[str], classes: int, h: int, w: int) -> list[float] | None:
    """The outline in pixels of a detection line (class, centre, width, height), else None."""
    if len(fields) != 5 or not fields[0].isdecimal() or int(fields[0]) >= classes:
        return None
    try:
        x, y, across, down = map(float, fields[1:])
    except ValueError:
        return None
    sides = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
    if not (across > 0 and down > 0 and min(sides) >= -_SLACK and max(sides) <= 1 + _SLACK):
        return None
    x0, x1 = (round(min(max(side, 0), 1) * w, _DIGITS) for side in sides[::2])
    y0, y1 = (round(min(max(side, 0), 1) * h, _DIGITS) for side in sides[1::2])
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def _problem(fields: list[str], classes: int) -> str:
    """What is wrong with a line; empty if nothing."""
    first, *rest = fields
    if not first.isdecimal():
        return f"the class is {first[:60]}, must be a number from 0 to {classes - 1}"
    if len(first) > 9 or int(first) >= classes:
        return f"the class is {first[:60]}, but the names go from 0 to {classes - 1}"
    try:
        values = [float(value) for value in rest]
    except ValueError as error:
        return f"a coordinate is not a number ({error})"
    if len(values) == 4:
        return "is a box (4 numbers after the class); masks are needed: x y of at least 3 corners"
    if len(values) % 2:
        return f"{len(values)} numbers after the class; corners need two each"
    if len(values) < 6:
        return f"a polygon of {len(values) // 2} corners; it needs at least 3"
    bad = [v for v in values if not (math.isfinite(v) and -_SLACK <= v <= 1 + _SLACK)]
    if bad:
        return f"coordinate {bad[0]:g}; they are fractions of width and height, from 0 to 1"
    return ""
