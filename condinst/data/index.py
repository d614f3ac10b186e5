"""A COCO dataset as flat numpy arrays on disk, mapped into memory.

Opening takes milliseconds and next to no memory at any size, and all loader processes share the
same pages. The files hold plain numbers, text and JSON: nothing that runs code when read.

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
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from condinst.errors import UserError

VERSION = 1
XYWH_ABS = 1  # detectron2's BoxMode.XYWH_ABS, which would bring torch; preparing data needs none
ARRAYS = {
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


def open_index(directory: str | Path) -> Index:
    """Open what :func:`condinst.annotations.build_index` left.

    Raises:
        UserError: there is no complete index of this version.
    """
    return Index(directory)


class Index(Sequence[dict[str, Any]]):
    """detectron2's dataset dicts, built on demand.

    Polygons come as a list of float64 arrays, other masks as compressed RLE; boxes are XYWH_ABS;
    classes are contiguous. A copy in another process maps the same files again.

    Attributes:
        categories: ``{"id", "name"}`` in order of the contiguous class.
        image_root: folder of the images.
        ranges: how values of more than 8 bits are scaled, see :mod:`condinst.files.pixels`.
        sizes: (N, 2) height, width.
        objects: (N,) number of annotations that are not crowd regions.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        try:
            meta = json.loads((self.directory / "index.json").read_text())
            arrays = {
                name: np.load(self.directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ARRAYS
            }
        except (OSError, ValueError) as error:
            raise UserError(
                f"{directory} has no complete index ({error}); run `python cli.py prepare`"
            ) from error
        if meta.get("version") != VERSION:
            raise UserError(
                f"{directory} has an index of version {meta.get('version')}, expected {VERSION}; "
                "run `python cli.py prepare`"
            )
        self.categories: list[dict[str, Any]] = meta["categories"]
        self.ranges: dict[str, list[float]] = meta.get("ranges", {})
        # An absolute path stays as it is.
        self.image_root = Path(os.path.normpath(self.directory.resolve() / meta["images"]))
        self._arrays = {name: values.view(np.ndarray) for name, values in arrays.items()}
        self._prefix = f"{self.image_root}{os.sep}"
        self.sizes = self._arrays["sizes"]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(A, 3) annotation id, contiguous class, iscrowd; in the order of the images."""
        return self._arrays["numbers"]

    @property
    def masked(self) -> NDArray[np.bool_]:
        """(A,) whether an annotation has a mask, not only a box."""
        lengths = [np.diff(self._arrays[f"{name}_ends"]) for name in ("polygon", "run")]
        return (lengths[0] > 0) | (lengths[1] > 0)

    @property
    def areas(self) -> NDArray[np.float64]:
        """(A,) as the JSON has them."""
        return self._arrays["areas"]

    def arrays(self) -> Iterator[NDArray[Any]]:
        """All arrays in a fixed order: what makes up the annotations."""
        yield from self._arrays.values()

    def file_names(self) -> Iterator[str]:
        """File names of all images, relative to the image folder."""
        ends = self._arrays["name_ends"].tolist()
        names = self._arrays["names"].tobytes()
        yield from (names[start:end].decode() for start, end in pairwise(ends))

    @property
    def objects(self) -> NDArray[np.int64]:
        """(N,) number of annotations that are not crowd regions."""
        single = np.cumsum(np.append(0, self._arrays["numbers"][:, 2] == 0))  # (A + 1,)
        return np.diff(single[self._arrays["ends"]])

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes another process open the files itself."""
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
        name_start, name_end = arrays["name_ends"][index : index + 2].tolist()
        name = arrays["names"][name_start:name_end].tobytes().decode()
        height, width = arrays["sizes"][index].tolist()
        return {
            "file_name": self._prefix + name,
            "image_id": int(arrays["ids"][index]),
            "height": height,
            "width": width,
            "annotations": self._annotations(index, [height, width]),
        }

    def _annotations(self, index: int, size: list[int]) -> list[dict[str, Any]]:
        arrays = self._arrays
        start, end = arrays["ends"][index : index + 2].tolist()
        numbers = arrays["numbers"][start:end].tolist()
        boxes = arrays["boxes"][start:end].tolist()
        areas = arrays["areas"][start:end].tolist()
        masks = self._masks(start, end, size)
        found = []
        for (identity, label, crowd), box, area, mask in zip(
            numbers, boxes, areas, masks, strict=True
        ):
            entry = {
                "id": identity,
                "bbox": box,
                "bbox_mode": XYWH_ABS,
                "category_id": label,
                "iscrowd": crowd,
                "area": area,
            }
            if mask:
                entry["segmentation"] = mask
            found.append(entry)
        return found

    def _masks(self, start: int, end: int, size: list[int]) -> list[Any]:
        """For each annotation its polygons, its run lengths, or an empty list."""
        arrays = self._arrays
        polygon_ends = arrays["polygon_ends"][start : end + 1].tolist()
        first, last = polygon_ends[0], polygon_ends[-1]
        point_ends = arrays["point_ends"][first : last + 1].tolist()
        low = point_ends[0]
        points = np.array(arrays["points"][low : point_ends[-1]])  # one copy for all of them
        parts = [points[a - low : b - low] for a, b in pairwise(point_ends)]
        masks: list[Any] = [parts[a - first : b - first] for a, b in pairwise(polygon_ends)]
        run_ends = arrays["run_ends"][start : end + 1].tolist()
        if run_ends[0] < run_ends[-1]:
            for k, (a, b) in enumerate(pairwise(run_ends)):
                if a < b:
                    masks[k] = {"size": [*size], "counts": arrays["runs"][a:b].tobytes()}
        return masks
