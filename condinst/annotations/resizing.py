"""Run-length masks of another size than their image, where the box tells how they are meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_tools

from condinst.annotations import rle
from condinst.annotations.box_readings import as_corners, overlap
from condinst.annotations.scales import same_shape

_FITS = 0.5  # intersection over union of mask and box: small masks are rough
_FIRM = 0.05  # by which one way must be better than another
_LARGEST = 1 << 26  # pixels

Entry = dict[str, Any]


class Fitted(NamedTuple):
    """A mask of its image's size.

    Attributes:
        mask: compressed run lengths.
        how: it was made so.
        scale: of the box, as (x, y), where it is in the frame of the mask as it was; or None.
    """

    mask: Entry
    how: str
    scale: tuple[float, float] | None


def fitted(
    mask: Entry, box: list[float] | None, height: int, width: int, *, sure: bool = False
) -> Fitted | None:
    """A mask for an image of another size; None: there is not one right answer.

    Args:
        mask: run lengths of any size.
        box: x, y, width, height that stand beside it.
        height: of the image.
        width: of the image.
        sure: the file's masks are of their images' shape, so that one without a box is too;
            otherwise it is not touched.
    """
    size = mask.get("size")
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return None
    if not all(type(side) is int and side > 0 for side in size) or size[0] * size[1] > _LARGEST:
        return None
    if box is None:
        ways = _ways(mask, height, width) if sure and same_shape(size, (height, width)) else ()
        return next((_fitted(*way, height, width) for way in ways if way[0].any()), None)
    stated = as_corners(np.array([box], np.float64))
    found: list[tuple[float, NDArray[np.uint8], str, tuple[float, float] | None]] = []
    for pixels, how, scale in _ways(mask, height, width):
        if pixels.any():
            around = _around(pixels)
            found.append((float(overlap(stated, around)[0]), pixels, how, None))
            if scale is not None:
                there = float(overlap(stated * np.tile(scale, 2), around)[0])
                found.append((there, pixels, how, scale))
    found.sort(key=lambda way: -way[0])
    if not found or found[0][0] < _FITS:
        return None
    best, pixels, how, scale = found[0]
    if any(best - way[0] < _FIRM and (way[1] != pixels).any() for way in found[1:]):
        return None
    return _fitted(pixels, how, scale, height, width)


def _fitted(
    pixels: NDArray[np.uint8],
    how: str,
    scale: tuple[float, float] | None,
    height: int,
    width: int,
) -> Fitted:
    coded = mask_tools.encode(np.asfortranarray(pixels))
    return Fitted({"size": [height, width], "counts": coded["counts"].decode()}, how, scale)


def _ways(
    mask: Entry, height: int, width: int
) -> Iterator[tuple[NDArray[np.uint8], str, tuple[float, float] | None]]:
    """What the mask may be: pixels (height, width), how, and the scale of x and y."""
    rows, columns = mask["size"]
    if rle.problem(mask, rows, columns) is None:
        coded = {"size": [rows, columns], "counts": rle.compress(mask)}
        pixels = mask_tools.decode(coded)
        across, down = width / columns, height / rows
        if same_shape((rows, columns), (height, width)):
            # the nearest pixel's centre
            y = np.minimum(((np.arange(height) + 0.5) / down).astype(int), rows - 1)
            x = np.minimum(((np.arange(width) + 0.5) / across).astype(int), columns - 1)
            yield pixels[y[:, None], x], f"scaled by {across:g}", (across, down)
        if (rows, columns) == (width, height):
            yield np.ascontiguousarray(pixels.T), "rows and columns exchanged", None
    if (rows, columns) == (width, height):
        right = {**mask, "size": [height, width]}
        if rle.problem(right, height, width) is None:
            coded = {"size": [height, width], "counts": rle.compress(right)}
            yield mask_tools.decode(coded), "its size stands as width, height", None


def _around(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Corners (1, 4) of what is not zero."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float64)
