"""Pascal VOC's masks: two PNGs per image, one of instances, one of classes.

A pixel of ``SegmentationObject`` gives its instance, by number or colour; the same pixel of
``SegmentationClass`` gives the class. 0 is background; 255, white-ish in VOC's palette, is void.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from condinst.files.bounds import PIXELS
from pipeline.acquire.formats.image_files import Reading, Thing, pixels, plain, size_of, stored_size

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

_NOBODY = 255
_MOST = 5_000  # instances per image; a photograph in a mask's place has one per colour


def palette() -> NDArray[np.int64]:
    """VOC's 256 colours (256, 3): the bits of a number, spread over red, green, blue from high."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for step in range(8):
        for channel in range(3):
            bit = numbers >> (3 * step + channel) & 1
            colours[:, channel] |= bit << (7 - step)
    return colours


def read(image_file: Path, objects: Path, classes: Path, names: list[str]) -> Reading:
    """Read one image's masks.

    Args:
        image_file: for its size.
        objects: PNG of instances.
        classes: PNG of classes.
        names: of the classes, from number 1.
    """
    reading = Reading(size_of(image_file))
    absent = [str(path) for path in (objects, classes) if not path.is_file()]
    if absent:
        reading.problems.append(f"{' and '.join(absent)} missing")
        return reading
    for path in (objects, classes):
        size = stored_size(path)
        if size != reading.size:
            reading.problems.append(
                f"{path} is {_by(size)} pixels, {image_file.name} is {_by(reading.size)}"
            )
    if reading.problems:
        return reading
    count = reading.size[0] * reading.size[1]
    PIXELS.require(5 * count, str(objects), f"has {count:,} pixels, which count five times here")
    found = _instances(pixels(objects)), _kinds(pixels(classes))
    # column by column, as run lengths go
    instances, kinds = (array.T.ravel() for array in found)
    numbers = np.unique(instances)
    if len(numbers) > _MOST:
        reading.problems.append(
            f"{objects} has {len(numbers):,} instances, the limit is {_MOST:,}; is it a mask?"
        )
        return reading
    for number, places in _places(instances):
        among = np.unique(kinds[places])
        among = among[among != _NOBODY]
        if len(among) != 1 or not 1 <= among[0] <= len(names):
            reading.problems.append(
                f"{objects}: instance {number} {_odd(among.tolist(), names, classes)}"
            )
            continue
        mask = _run_lengths(places, reading.size)
        reading.things.append(Thing(names[int(among[0]) - 1], mask))
    return reading


def _places(instances: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each number but 0, ascending, with its positions; all found by one sort."""
    drawn = np.flatnonzero(instances)
    drawn = drawn[np.argsort(instances[drawn], kind="stable")]
    if not len(drawn):
        return
    changes = np.flatnonzero(np.diff(instances[drawn])) + 1
    for places in np.split(drawn, changes):
        yield int(instances[places[0]]), places


def _run_lengths(places: NDArray[np.int64], size: tuple[int, int]) -> dict[str, Any]:
    """COCO's mask of pixels given by their ascending positions, column by column."""
    firsts = places[np.diff(places, prepend=-2) > 1]
    lasts = places[np.diff(places, append=places[-1] + 2) > 1] + 1
    bounds = np.stack((firsts, lasts), 1).ravel()
    runs = np.diff(bounds, prepend=0, append=size[0] * size[1]).tolist()
    return plain(mask_api.frPyObjects({"size": list(size), "counts": runs}, *size))


def _odd(found: list[int], names: list[str], classes: Path) -> str:
    if not found:
        return f"has only void pixels (255) in {classes}"
    if len(found) > 1:
        return f"has classes {', '.join(map(str, found))} in {classes}, must have one"
    if found[0] == 0:
        return f"is background (0) in {classes}"
    if found[0] < 0:
        return f"has a colour in {classes} that is not in VOC's palette"
    return f"has class {found[0]} in {classes}, but the names go from 1 to {len(names)}"


def _instances(image: NDArray[Any]) -> NDArray[np.int32]:
    """Instance numbers (h, w), 0 for none; each colour becomes one number."""
    if image.ndim == 3:
        colours = _packed(image)
        colours[colours == _packed(palette()[_NOBODY])] = 0
        return colours
    numbers = image.astype(np.int32)
    if image.dtype == np.uint8:  # with more than 8 bits, 255 is an ordinary instance
        numbers[numbers == _NOBODY] = 0
    return numbers


def _kinds(image: NDArray[Any]) -> NDArray[np.int32]:
    """Class numbers (h, w); -1 where a colour is not in the palette."""
    if image.ndim == 2:
        return image.astype(np.int32)
    table = _packed(palette())
    order = np.argsort(table)
    colours = _packed(image)
    place = order[np.clip(np.searchsorted(table, colours, sorter=order), 0, 255)]
    return np.where(table[place] == colours, place, -1).astype(np.int32)


def _packed(colours: NDArray[Any]) -> NDArray[np.int32]:
    """Colours (..., 3) as one number each."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
