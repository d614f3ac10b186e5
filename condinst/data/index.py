"""A COCO dataset as flat numpy arrays on disk, mapped into memory.

Opening takes milliseconds and next to no memory whatever the size, and all loader processes share
the same pages. The files hold plain numbers, text and JSON: nothing that runs code when read.

Letters: ``N`` images, ``A`` annotations, ``P`` polygons, ``C`` coordinates, ``T`` bytes.

============  ==========  ===================================================
ids           (N,)        image ids
sizes         (N, 2)      height, width
names         (T,)        file names in UTF-8, one after the other
name_ends     (N + 1,)    where each begins and ends in ``names``
ends          (N + 1,)    where each image's annotations begin and end
numbers       (A, 3)      annotation id, contiguous class, iscrowd
boxes         (A, 4)      x, y, width, height
areas         (A,)        as the JSON has them
polygon_ends  (A + 1,)    where each annotation's polygons begin and end
point_ends    (P + 1,)    where each polygon begins and ends in ``points``
points        (C,)        x, y, x, y, ...
run_ends      (A + 1,)    where each annotation's mask begins and ends in ``runs``
runs          (T,)        compressed run lengths, empty where there are polygons
============  ==========  ===================================================
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from detectron2.structures import BoxMode
from numpy.typing import NDArray

from condinst.data import rle
from condinst.errors import UserError

VERSION = 1
_ARRAYS = {
    "ids": np.int64,
    "sizes": np.int32,
    "names": np.uint8,
    "name_ends": np.int64,
    "ends": np.int64,
    "numbers": np.int64,
    "boxes": np.float64,
    "areas": np.float64,
    "polygon_ends": np.int64,
    "point_ends": np.int64,
    "points": np.float64,
    "run_ends": np.int64,
    "runs": np.uint8,
}


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


def build_index(
    annotations: str | Path | Mapping[str, Any], images: str | Path, out: str | Path
) -> IndexReport:
    """Write an index, and the annotations beside it as ``annotations.json``.

    Images keep the JSON's order. Classes are numbered in the order of their ids.

    Args:
        annotations: a COCO instance JSON, or its content; sound (see :func:`check_annotations`).
        images: folder that the file names are relative to; a relative one is kept relative to the
            index, so that both can move together.
        out: folder to write, made if missing.

    Raises:
        UserError: the JSON is missing, is no JSON, or refers to an image or category that it lacks.
    """
    content = read_coco(annotations) if isinstance(annotations, (str, Path)) else annotations
    out, images = Path(out), Path(images)
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.json").unlink(missing_ok=True)  # written last: an index without it is not whole
    categories = sorted(content["categories"], key=lambda category: category["id"])
    arrays = _gather(content, {category["id"]: k for k, category in enumerate(categories)})
    for name, values in arrays.items():
        np.save(out / f"{name}.npy", values, allow_pickle=False)
    (out / "annotations.json").write_text(json.dumps(content, separators=(",", ":")))
    root = str(images) if images.is_absolute() else os.path.relpath(images.resolve(), out.resolve())
    names = [{"id": category["id"], "name": category["name"]} for category in categories]
    meta = {"version": VERSION, "images": root, "categories": names}
    (out / "index.json").write_text(json.dumps(meta, indent=2) + "\n")
    crowds = int(arrays["numbers"][:, 2].sum())
    size = sum(values.nbytes for values in arrays.values())
    return IndexReport(len(arrays["ids"]), len(arrays["numbers"]) - crowds, crowds, size)


def read_coco(path: str | Path) -> dict[str, Any]:
    """A COCO instance JSON.

    Raises:
        UserError: it is missing, is no JSON, or lacks one of the three lists.
    """
    try:
        with Path(path).open("rb") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; it should hold COCO annotations") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give the JSON file of the annotations") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    lists = ("images", "annotations", "categories")
    lacking = [
        key
        for key in lists
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if lacking:
        raise UserError(
            f"{path} has no list {', '.join(lacking)}; COCO instance annotations have the lists "
            "images, annotations and categories"
        )
    return content


def _gather(content: Mapping[str, Any], classes: dict[int, int]) -> dict[str, NDArray[Any]]:
    """All arrays of an index."""
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    images = content["images"]
    unknown = by_image.keys() - {image["id"] for image in images}
    if unknown:
        raise UserError(f"annotations refer to images that are not listed: {sorted(unknown)[:5]}")
    ordered = [annotation for image in images for annotation in by_image.get(image["id"], ())]
    foreign = {annotation["category_id"] for annotation in ordered} - classes.keys()
    if foreign:
        raise UserError(
            f"annotations refer to categories that are not listed: {sorted(foreign)[:5]}"
        )
    names = [image["file_name"].encode() for image in images]
    polygons = [_polygons(annotation) for annotation in ordered]
    parts = [np.asarray(part, np.float64) for parts in polygons for part in parts]
    runs = [_runs(annotation) for annotation in ordered]
    values: dict[str, Any] = {
        "ids": [image["id"] for image in images],
        "sizes": np.array([(i["height"], i["width"]) for i in images]).reshape(-1, 2),
        "names": np.frombuffer(b"".join(names), np.uint8),
        "name_ends": _ends(names),
        "ends": _ends([by_image.get(image["id"], ()) for image in images]),
        "numbers": np.array(
            [(a["id"], classes[a["category_id"]], a.get("iscrowd", 0)) for a in ordered]
        ).reshape(-1, 3),
        "boxes": np.array([a["bbox"] for a in ordered]).reshape(-1, 4),
        "areas": [a.get("area", 0) for a in ordered],
        "polygon_ends": _ends(polygons),
        "point_ends": _ends(parts),
        "points": np.concatenate(parts) if parts else [],
        "run_ends": _ends(runs),
        "runs": np.frombuffer(b"".join(runs), np.uint8),
    }
    return {name: np.asarray(values[name], kind) for name, kind in _ARRAYS.items()}


def _ends(items: Sequence[Any]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, items)], dtype=np.int64)


def _polygons(annotation: Mapping[str, Any]) -> list[list[float]]:
    segmentation = annotation.get("segmentation")
    return segmentation if isinstance(segmentation, list) else []


def _runs(annotation: Mapping[str, Any]) -> bytes:
    segmentation = annotation.get("segmentation")
    return rle.compress(segmentation) if isinstance(segmentation, dict) else b""


def open_index(directory: str | Path) -> Index:
    """Open what :func:`build_index` left.

    Raises:
        UserError: there is no whole index of this version.
    """
    return Index(directory)


class Index(Sequence[dict[str, Any]]):
    """detectron2's dataset dicts, made when asked for.

    Polygons come as a list of float64 arrays, other masks as compressed RLE; boxes are XYWH_ABS;
    classes are contiguous. A copy in another process maps the same files again.

    Attributes:
        categories: ``{"id", "name"}`` in order of the contiguous class.
        image_root: folder of the images.
        sizes: (N, 2) height, width.
        objects: (N,) number of annotations that are no crowd regions.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        try:
            meta = json.loads((self.directory / "index.json").read_text())
            arrays = {
                name: np.load(self.directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
            }
        except (OSError, ValueError) as error:
            raise UserError(
                f"{directory} holds no whole index ({error}); run `python cli.py prepare`"
            ) from error
        if meta.get("version") != VERSION:
            raise UserError(
                f"{directory} holds an index of version {meta.get('version')}, this is {VERSION}; "
                "run `python cli.py prepare`"
            )
        self.categories: list[dict[str, Any]] = meta["categories"]
        # An absolute one stays as it is.
        self.image_root = Path(os.path.normpath(self.directory.resolve() / meta["images"]))
        self._arrays = {name: values.view(np.ndarray) for name, values in arrays.items()}
        self.sizes = self._arrays["sizes"]

    @property
    def objects(self) -> NDArray[np.int64]:
        """(N,) number of annotations that are no crowd regions."""
        single = np.cumsum(np.append(0, self._arrays["numbers"][:, 2] == 0))  # (A + 1,)
        return np.diff(single[self._arrays["ends"]])

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files itself."""
        return open_index, (str(self.directory),)

    def __len__(self) -> int:
        """N."""
        return len(self._arrays["ids"])

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """One image's dict, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = int(index) % len(self)
        arrays = self._arrays
        name_start, name_end = arrays["name_ends"][index : index + 2]
        name = arrays["names"][name_start:name_end].tobytes().decode()
        height, width = arrays["sizes"][index].tolist()
        return {
            "file_name": str(self.image_root / name),
            "image_id": int(arrays["ids"][index]),
            "height": height,
            "width": width,
            "annotations": self._annotations(index, height, width),
        }

    def _annotations(self, index: int, height: int, width: int) -> list[dict[str, Any]]:
        arrays = self._arrays
        start, end = arrays["ends"][index : index + 2].tolist()
        numbers = arrays["numbers"][start:end].tolist()
        boxes = arrays["boxes"][start:end].tolist()
        found = []
        for k, ((identity, label, crowd), box) in enumerate(zip(numbers, boxes, strict=True)):
            entry = {
                "id": identity,
                "bbox": box,
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": label,
                "iscrowd": crowd,
                "area": float(arrays["areas"][start + k]),
            }
            segmentation = self._segmentation(start + k, (height, width))
            if segmentation is not None:
                entry["segmentation"] = segmentation
            found.append(entry)
        return found

    def _segmentation(self, k: int, size: tuple[int, int]) -> Any:
        arrays = self._arrays
        start, end = arrays["run_ends"][k : k + 2].tolist()
        if end > start:
            return {"size": list(size), "counts": arrays["runs"][start:end].tobytes()}
        start, end = arrays["polygon_ends"][k : k + 2].tolist()
        ends = arrays["point_ends"][start : end + 1].tolist()
        parts = [np.array(arrays["points"][a:b]) for a, b in pairwise(ends)]
        return parts or None
