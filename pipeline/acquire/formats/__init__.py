"""Labels in formats other than COCO's, converted to it when the data is acquired.

The readers are small and our own, since no library fits: of the three, supervision only reads
YOLO-seg, through full-size masks, which loses the corners; globox and pylabel only know boxes;
labelme2coco brings an inference framework; fiftyone brings a database server; datumaro pins older
versions of OpenCV, pandas and Pillow than the rest of the project needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_api
from rich.progress import track

from condinst.errors import UserError
from pipeline.acquire.formats.image_files import Problem, Reading, Thing, rasterised
from pipeline.acquire.formats.sources import Source, locate
from pipeline.acquire.manifest import SplitPaths
from pipeline.console import terminal
from pipeline.params import Split

_SHOWN = 20


@dataclass(frozen=True)
class Converted:
    """A split in COCO's format, and what it was made from, to be watched.

    Attributes:
        paths: JSON and image folder.
        files: labels, names and list that were read.
        folders: those searched, with the suffixes searched for.
    """

    paths: SplitPaths
    files: list[Path]
    folders: dict[Path, tuple[str, ...]]


def convert(splits: dict[str, Split], folder: Path) -> dict[str, Converted]:
    """Write each split's labels as ``annotations/instances_NAME.json``.

    Classes are numbered from 1 in the order of the names file; without one, LabelMe's labels of all
    splits are sorted by name. What cannot be read is recorded as ``unread`` in its annotation or in
    ``info``, for `prepare` to handle by its policy.

    Args:
        splits: name to its location; none in format coco.
        folder: receives the JSONs.

    Raises:
        UserError: something is missing, or no label can be read.
    """
    sources = {name: locate(split, f"dataset.{name}") for name, split in splits.items()}
    readings = {name: _read(name, source) for name, source in sources.items()}
    labels = {
        thing.name
        for name, found in readings.items()
        if sources[name].names is None
        for reading in found
        for thing in reading.things
    }
    for name, source in sources.items():
        _part_unnamed(readings[name], source)
        _require_some(readings[name], source)
    (folder / "annotations").mkdir(exist_ok=True)
    converted = {}
    for name, source in sources.items():
        listed_names = sorted(labels) if source.names is None else source.names
        if not listed_names:
            raise UserError(f"{source.key}: no label has a class name; there is nothing to learn")
        path = folder / "annotations" / f"instances_{name}.json"
        content = _coco(source, readings[name], listed_names)
        path.write_text(json.dumps(content, separators=(",", ":")))
        converted[name] = Converted(SplitPaths(path, source.images), source.files, source.folders)
        _tell(name, source, readings[name])
    return converted


def _read(name: str, source: Source) -> list[Reading]:
    def attempt(image_file: Path) -> Reading:
        try:
            return source.read(image_file)
        except UserError as error:
            return Reading((0, 0), problems=[str(error)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found: Iterable[Reading] = pool.map(attempt, source.image_files)
        return list(track(found, f"Reading labels of {name}", len(source.image_files)))


def _part_unnamed(readings: list[Reading], source: Source) -> None:
    """Labels that are missing from a given names file become problems."""
    names = source.names
    if names is None:
        return
    for reading in readings:
        for thing in reading.things:
            if thing.name not in names:
                reading.problems.append(f"{source.key}.names does not contain {thing.name}")
        reading.things = [thing for thing in reading.things if thing.name in names]


def _require_some(readings: list[Reading], source: Source) -> None:
    """If nothing can be used, the mistake concerns the whole split."""
    problems = [*source.problems, *(p for reading in readings for p in reading.problems)]
    if problems and not any(reading.things for reading in readings):
        shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        raise UserError(
            f"{source.key}: no label can be used; the labels have {len(problems):,} faults:"
            f"{shown}{more}\nCorrect them and run it again."
        )


def _tell(name: str, source: Source, readings: list[Reading]) -> None:
    """Report surprises: nothing is treated as empty or left out silently."""
    bare = sum(1 for reading in readings if not reading.labelled)
    ignored = sum(reading.ignored for reading in readings)
    things = sum(len(reading.things) for reading in readings)
    problems = len(source.problems) + sum(len(reading.problems) for reading in readings)
    parts = [f"{name}: {things:,} objects in {len(readings):,} images ({source.split.format})"]
    if problems:
        parts.append(f"{problems:,} labels cannot be used: prepare.policy decides what to do")
    if bare:
        parts.append(f"{bare:,} images have no labels: treated as without objects")
    if ignored:
        parts.append(f"{ignored:,} shapes labelled as background or ignore are left out")
    terminal().print("; ".join(parts))


def _coco(source: Source, readings: list[Reading], named: list[str]) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(named, 1)}
    images, annotations = [], []
    unread: list[str] = list(source.problems)
    for image_id, (image_file, reading) in enumerate(
        zip(source.image_files, readings, strict=True), 1
    ):
        h, w = reading.size
        if not h:  # the image itself cannot be read
            unread += reading.problems
            continue
        file_name = image_file.relative_to(source.images).as_posix()
        images.append({"id": image_id, "file_name": file_name, "width": w, "height": h})
        for thing in reading.things:
            entry = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append({**entry, **_object(thing, numbers, reading.size)})
        for problem in reading.problems:
            entry = {"id": len(annotations) + 1, "image_id": image_id, "unread": str(problem)}
            if isinstance(problem, Problem) and problem.thing.name in numbers:
                entry |= _object(problem.thing, numbers, reading.size)
            annotations.append(entry)
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {
        "info": {
            "description": f"converted from {source.split.format}",
            "unread": unread,
            "mended": [text for reading in readings for text in reading.mended],
        },
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _object(thing: Thing, numbers: dict[str, int], size: tuple[int, int]) -> dict[str, Any]:
    """An annotation's class and mask."""
    rle = rasterised(thing.segmentation, size)
    return {
        "category_id": numbers[thing.name],
        "segmentation": thing.segmentation,
        "area": float(mask_api.area(rle)),
        "bbox": _box(thing.segmentation, rle),
        "iscrowd": 0,
    }


def _box(segmentation: Any, rle: Any) -> list[float]:
    """COCO's box (x, y, w, h): of the corners, or of the pixels."""
    if not isinstance(segmentation, list):
        return [float(value) for value in mask_api.toBbox(rle)]
    xs = [x for polygon in segmentation for x in polygon[::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    return [min(xs), min(ys), round(max(xs) - min(xs), 3), round(max(ys) - min(ys), 3)]
