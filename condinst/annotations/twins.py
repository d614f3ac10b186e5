"""Objects that are listed twice: of one image and class, with the same mask to the pixel."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_tools

from condinst.annotations import rle
from condinst.annotations.json_lists import Edited

Entry = dict[str, Any]

_FEW = 100  # entries that are rather read one by one than in a walk through all
_GRAIN = 100  # of coordinates, in a pixel
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Twins:
    """Gathers a number an object, equal for those that may be the same."""

    def __init__(self) -> None:
        self._keys, self._places = array("Q"), array("q")

    def add(
        self,
        places: NDArray[np.int_],
        images: NDArray[np.int_],
        classes: NDArray[np.int_],
        around: NDArray[np.float64],
    ) -> None:
        """Note objects.

        Args:
            places: (n,) in the list of those that are kept.
            images: (n,) number of each one's image.
            classes: (n,) likewise.
            around: (n, 4) corners of what the mask covers; crowds have none and are left out.
        """
        drawn = np.isfinite(around[:, 0])
        grains = np.round(around[drawn] * _GRAIN).astype(np.int64).view(np.uint64)
        key = images[drawn].astype(np.uint64)
        for column in (classes[drawn].astype(np.uint64), *grains.T):
            key = (key ^ column) * _ODD
            key ^= key >> np.uint64(29)
        self._keys.frombytes(key.tobytes())
        self._places.frombytes(places[drawn].astype(np.int64).tobytes())

    def suspects(self) -> list[int]:
        """Places of all that may be there twice, ascending."""
        if not self._keys:
            return []
        keys = np.frombuffer(self._keys, np.uint64)
        order = np.argsort(keys, kind="stable")
        alike = keys[order][1:] == keys[order][:-1]
        twice = np.zeros(len(keys), bool)
        twice[order[1:][alike]] = twice[order[:-1][alike]] = True
        return np.sort(np.frombuffer(self._places, np.int64)[twice]).tolist()


def listed_twice(
    kept: Edited, suspects: list[int], sizes: Mapping[Any, tuple[int, int]]
) -> Iterator[tuple[int, Entry, Entry]]:
    """Places of objects that are listed before, they themselves, and their first.

    Args:
        kept: sound annotations.
        suspects: places in it that are looked at, ascending.
        sizes: (height, width) of images by id.
    """
    firsts: dict[tuple[Any, Any, bytes], Entry] = {}
    for place, entry in _chosen(kept, suspects):
        mask = entry.get("segmentation")
        # of some objects only the box is known
        shape = _raster(mask, *sizes[entry["image_id"]]) if mask else repr(entry["bbox"]).encode()
        key = entry["image_id"], entry["category_id"], shape
        first = firsts.setdefault(key, entry)
        if first is not entry:
            yield place, entry, first


def _chosen(kept: Edited, places: list[int]) -> Iterator[tuple[int, Entry]]:
    if len(places) <= _FEW:
        yield from ((place, kept[place]) for place in places)
        return
    wanted = iter(places)
    following = next(wanted, -1)
    for place, entry in enumerate(kept):
        if place == following:
            yield place, entry
            following = next(wanted, -1)


def _raster(mask: Any, height: int, width: int) -> bytes:
    if isinstance(mask, list):
        return mask_tools.merge(mask_tools.frPyObjects(mask, height, width))["counts"]
    return rle.compress(mask)
