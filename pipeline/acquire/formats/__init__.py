"""Labels in other formats than COCO's, converted to it when the data is acquired.

Small readers of our own, since no library serves: supervision reads YOLO-seg alone of the three,
and through full-size masks, which loses the corners; globox and pylabel know boxes only;
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
from pipeline.acquire.formats.pictures import Reading, rasterised
from pipeline.acquire.formats.sources import Source, locate
from pipeline.acquire.manifest import SplitPaths
from pipeline.console import terminal
from pipeline.params import Split

_SHOWN = 20


@dataclass(frozen=True)
class Converted:
    """A split in COCO's format, and what it was made of, to be watched.

    Attributes:
        paths: JSON and folder of pictures.
        files: labels, names and list that were read.
        folders: that were searched, with the suffixes searched for.
    """

    paths: SplitPaths
    files: list[Path]
    folders: dict[Path, tuple[str, ...]]


def convert(splits: dict[str, Split], folder: Path) -> dict[str, Converted]:
    """Write each split's labels as ``annotations/instances_NAME.json``.

    Classes are numbered from 1 on in the order of the names file; without one, LabelMe's labels of
    all splits by their names.

    Args:
        splits: name to where it lies; none of format coco.
        folder: gets the JSONs.

    Raises:
        UserError: something is missing or labels cannot be read; all faults are named.
    """
    sources = {name: locate(split, f"dataset.{name}") for name, split in splits.items()}
    readings = {name: _read(name, source) for name, source in sources.items()}
    problems = [problem for source in sources.values() for problem in source.problems]
    problems += [p for found in readings.values() for reading in found for p in reading.problems]
    labels = {
        thing.name
        for name, found in readings.items()
        if sources[name].names is None
        for reading in found
        for thing in reading.things
    }
    for name, source in sources.items():
        problems += _unnamed(readings[name], source)
    if problems:
        raise UserError(_describe(problems))
    (folder / "annotations").mkdir(exist_ok=True)
    converted = {}
    for name, source in sources.items():
        listed_names = sorted(labels) if source.names is None else source.names
        if not listed_names:
            raise UserError(f"{source.key}: no label names a class; there is nothing to learn")
        path = folder / "annotations" / f"instances_{name}.json"
        content = _coco(source, readings[name], listed_names)
        path.write_text(json.dumps(content, separators=(",", ":")))
        converted[name] = Converted(SplitPaths(path, source.images), source.files, source.folders)
        _tell(name, source, readings[name])
    return converted


def _read(name: str, source: Source) -> list[Reading]:
    def attempt(picture: Path) -> Reading:
        try:
            return source.read(picture)
        except UserError as error:
            return Reading((0, 0), problems=[str(error)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found: Iterable[Reading] = pool.map(attempt, source.pictures)
        return list(track(found, f"Reading labels of {name}", len(source.pictures)))


def _unnamed(readings: list[Reading], source: Source) -> list[str]:
    """Labels that a names file was given for, but that it does not name."""
    if source.names is None:
        return []
    found = {thing.name for reading in readings for thing in reading.things}
    unknown = sorted(found - set(source.names))
    return [f"{source.key}.names does not name {', '.join(unknown)}"] if unknown else []


def _describe(problems: list[str]) -> str:
    shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
    return f"the labels have {len(problems):,} faults:{shown}{more}\nCorrect them and run it again."


def _tell(name: str, source: Source, readings: list[Reading]) -> None:
    """What a reader may not expect: nothing is taken for empty or left out in silence."""
    bare = sum(1 for reading in readings if not reading.labelled)
    ignored = sum(reading.ignored for reading in readings)
    things = sum(len(reading.things) for reading in readings)
    parts = [f"{name}: {things:,} objects in {len(readings):,} pictures ({source.split.format})"]
    if bare:
        parts.append(f"{bare:,} pictures have no labels: taken as without objects")
    if ignored:
        parts.append(f"{ignored:,} shapes labelled as background or to be ignored are left out")
    terminal().print("; ".join(parts))


def _coco(source: Source, readings: list[Reading], named: list[str]) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(named, 1)}
    images, annotations = [], []
    for image_id, (picture, reading) in enumerate(zip(source.pictures, readings, strict=True), 1):
        h, w = reading.size
        file_name = picture.relative_to(source.images).as_posix()
        images.append({"id": image_id, "file_name": file_name, "width": w, "height": h})
        for thing in reading.things:
            rle = rasterised(thing.segmentation, reading.size)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[thing.name],
                    "segmentation": thing.segmentation,
                    "area": float(mask_api.area(rle)),
                    "bbox": _box(thing.segmentation, rle),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {
        "info": {"description": f"converted from {source.split.format}"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _box(segmentation: Any, rle: Any) -> list[float]:
    """COCO's box (x, y, w, h): of the corners, or of the pixels."""
    if not isinstance(segmentation, list):
        return [float(value) for value in mask_api.toBbox(rle)]
    xs = [x for polygon in segmentation for x in polygon[::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    return [min(xs), min(ys), round(max(xs) - min(xs), 3), round(max(ys) - min(ys), 3)]
