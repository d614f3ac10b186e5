"""From annotations to the arrays of an index, in one walk through them.

Letters: as in :mod:`condinst.data.index`. Everything is gathered in the annotations' own order and
put into that of the images when it is written.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from condinst.annotations import rle
from condinst.data.index import ARRAYS
from condinst.errors import UserError

_TOGETHER = 16_384  # annotations that are put into order at once

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class IndexReport:
    """What an index holds.

    Attributes:
        images: number of images.
        objects: number of annotations that are no crowd regions.
        crowds: number of crowd regions.
        bytes: size of the arrays on disk.
    """

    images: int
    objects: int
    crowds: int
    bytes: int


class Gathered:
    """Arrays that grow with each annotation."""

    def __init__(self, images: list[dict[str, Any]]) -> None:
        self.images = images
        self.rows = {image["id"]: k for k, image in enumerate(images)}
        self.owners, self.numbers = array("q"), array("q")
        self.boxes, self.areas = array("d"), array("d")
        self.polygons, self.lengths, self.points = array("q"), array("q"), array("d")
        self.run_lengths, self.runs = array("q"), bytearray()

    def add(self, entry: Mapping[str, Any], label: int) -> None:
        """Take an annotation of a known image."""
        self.owners.append(self.rows[entry["image_id"]])
        self.numbers.extend((entry["id"], label, entry.get("iscrowd", 0)))
        self.boxes.extend(entry["bbox"])
        self.areas.append(entry.get("area", 0))
        mask = entry.get("segmentation")
        polygons = mask if isinstance(mask, list) else ()
        self.polygons.append(len(polygons))
        for part in polygons:
            self.lengths.append(len(part))
            if isinstance(part, list):
                self.points.fromlist(part)
            else:
                self.points.extend(part)
        runs = rle.compress(mask) if isinstance(mask, dict) else b""
        self.run_lengths.append(len(runs))
        self.runs += runs

    def write(self, out: Path) -> IndexReport:
        """Write all arrays into a folder."""
        owners = _view(self.owners, np.int64)
        order = np.argsort(owners, kind="stable")
        in_order = bool((order[1:] > order[:-1]).all())
        polygons, runs = (_view(a, np.int64) for a in (self.polygons, self.run_lengths))
        lengths = _view(self.lengths, np.int64)
        polygon_ends = _ends(polygons)
        points = np.diff(_ends(lengths)[polygon_ends])  # (A,) coordinates of each annotation
        names = [image["file_name"].encode() for image in self.images]
        numbers = _view(self.numbers, np.int64).reshape(-1, 3)
        small: dict[str, Any] = {
            "ids": [image["id"] for image in self.images],
            "sizes": np.array([(i["height"], i["width"]) for i in self.images]).reshape(-1, 2),
            "names": np.frombuffer(b"".join(names), np.uint8),
            "name_ends": _ends(np.fromiter(map(len, names), np.int64, len(names))),
            "ends": _ends(np.bincount(owners, minlength=len(names))),
            "numbers": numbers[order],
            "boxes": _view(self.boxes, np.float64).reshape(-1, 4)[order],
            "areas": _view(self.areas, np.float64)[order],
            "polygon_ends": _ends(polygons[order]),
            "run_ends": _ends(runs[order]),
        }
        for name, values in small.items():
            np.save(out / f"{name}.npy", np.asarray(values, ARRAYS[name]), allow_pickle=False)
        ordered = np.concatenate([*_moved(lengths, polygons, order, in_order)])
        np.save(out / "point_ends.npy", _ends(ordered), allow_pickle=False)
        flat = _view(self.points, np.float64)
        _save_parts(out / "points.npy", len(flat), _moved(flat, points, order, in_order))
        flat = np.frombuffer(self.runs, np.uint8)
        _save_parts(out / "runs.npy", len(flat), _moved(flat, runs, order, in_order))
        crowds = int(numbers[:, 2].sum())
        size = sum((out / f"{name}.npy").stat().st_size for name in ARRAYS)
        return IndexReport(len(names), len(numbers) - crowds, crowds, size)


def gather(content: Mapping[str, Any], classes: Mapping[int, int]) -> Gathered:
    """All arrays of an index.

    Args:
        content: sound annotations.
        classes: contiguous class of each category id.

    Raises:
        UserError: annotations refer to images or categories that are not listed.
    """
    gathered = Gathered(content["images"])
    unknown, foreign = set(), set()
    for entry in content["annotations"]:
        label = classes.get(entry["category_id"])
        if entry["image_id"] not in gathered.rows:
            unknown.add(entry["image_id"])
        elif label is None:
            foreign.add(entry["category_id"])
        else:
            gathered.add(entry, label)
    for what, found in (("images", unknown), ("categories", foreign)):
        if found:
            raise UserError(
                f"annotations refer to {what} that are not listed: {sorted(found, key=str)[:5]}"
            )
    return gathered


def _view(values: array[Any], kind: type) -> NDArray[Any]:
    return np.frombuffer(values, kind) if values else np.empty(0, kind)


def _ends(lengths: NDArray[Any]) -> Whole:
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _moved(
    flat: NDArray[Any], lengths: Whole, order: Whole, in_order: bool
) -> Iterator[NDArray[Any]]:
    """Rows of different lengths in another order, many at a time; at least one array.

    Args:
        flat: the rows one after the other.
        lengths: (A,) of the rows.
        order: (A,) which row comes where.
        in_order: that is where they are.
    """
    if in_order:
        yield flat
        return
    starts = _ends(lengths)[:-1]
    for first in range(0, len(order), _TOGETHER):
        chosen = order[first : first + _TOGETHER]
        sizes = lengths[chosen]
        places = np.arange(sizes.sum()) + np.repeat(starts[chosen] - _ends(sizes)[:-1], sizes)
        yield flat[places]


def _save_parts(path: Path, length: int, parts: Iterator[NDArray[Any]]) -> None:
    """As ``np.save`` of all parts together."""
    kind = np.dtype(ARRAYS[path.stem])
    with path.open("wb") as file:
        header = {"descr": kind.str, "fortran_order": False, "shape": (length,)}
        write_array_header_1_0(file, header)
        for part in parts:
            np.ascontiguousarray(part, kind).tofile(file)
