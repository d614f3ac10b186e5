"""Many images of a dataset on one sheet, with their masks: the data at a glance."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_tools

from condinst.data.images import read_oriented
from condinst.data.index import Index
from condinst.files.pixels import Ranges

_GAP = 4  # pixels between images
_PAPER = 255
_TINT = 0.45  # share of the class's colour in a mask
_GOLDEN = 0.618034  # of the colour circle from class to class: neighbours differ most


def contact_sheet(
    index: Index,
    *,
    images: int = 24,
    columns: int = 6,
    cell: int = 192,
    seed: int | None = 0,
    masks: bool = True,
) -> NDArray[np.uint8]:
    """Draw images of a dataset side by side, each as large as its cell allows.

    Objects have a tint by class and a white contour; crowd regions a black one. The same arguments
    give the same image.

    Args:
        index: the dataset.
        images: how many at most.
        columns: how many per row at most.
        cell: side of an image's cell in pixels.
        seed: chooses the images; None: the first ones.
        masks: draw the annotations.

    Returns:
        (H, W, 3) RGB.

    Raises:
        UserError: an image file is missing or does not decode.
    """
    count = min(images, len(index))
    assert count, "a contact sheet of no images"
    chosen = np.arange(count)
    if seed is not None:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(index))[:count])
    across = min(columns, count)
    down = -(-count // across)
    pitch = cell + _GAP
    sheet = np.full((down * pitch - _GAP, across * pitch - _GAP, 3), _PAPER, np.uint8)
    for place, number in enumerate(chosen):
        pixels = _fit(_drawn(index[int(number)], masks, index.ranges), cell)
        h, w = pixels.shape[:2]
        top = place // across * pitch + (cell - h) // 2
        left = place % across * pitch + (cell - w) // 2
        sheet[top : top + h, left : left + w] = pixels
    return sheet


def _drawn(record: dict[str, Any], masks: bool, ranges: Ranges) -> NDArray[np.uint8]:
    """An image (h, w, 3), with its annotations if asked for."""
    size = record["height"], record["width"]
    pixels = read_oriented(record["file_name"], size, "RGB", ranges).copy()
    for entry in record["annotations"] if masks else ():
        if "segmentation" not in entry:
            continue
        mask = _decode(entry["segmentation"], *size)
        tint = _TINT * _colour(entry["category_id"])
        pixels[mask] = (pixels[mask] * (1 - _TINT) + tint).astype(np.uint8)
        pixels[mask & ~_eroded(mask)] = 0 if entry["iscrowd"] else 255
    return pixels


def _decode(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):
        parts = [np.asarray(part, np.float64).tolist() for part in segmentation]
        segmentation = mask_tools.merge(mask_tools.frPyObjects(parts, height, width))
    return mask_tools.decode(segmentation).astype(bool)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its border pixels; the image's border does not count as one."""
    padded = np.pad(mask, 1, mode="edge")
    across = padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & across & padded[:-2, 1:-1] & padded[2:, 1:-1]


def _colour(label: int) -> NDArray[np.float64]:
    return 255 * np.array(colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.85, 1.0))


def _fit(pixels: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    """The image scaled to its cell, up by whole numbers only: small ones stay sharp."""
    h, w = pixels.shape[:2]
    scale = cell / max(h, w)
    if scale >= 1:
        factor = int(scale)
        return pixels.repeat(factor, 0).repeat(factor, 1)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
