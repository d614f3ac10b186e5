"""Boundary IoU of masks (Cheng et al., arXiv 2103.16562).

Of each mask only the band along its contour counts: the pixels that lie within a distance of 2% of
the image's diagonal from the outside, which begins at the image's border too. Boundary AP matches
by the lesser of mask IoU and boundary IoU, as the paper does, so that neither a hollow mask nor a
coarse contour passes. Crowd regions have no contour of their own: there the mask's IoU stands.

Shapes: D detections, G objects; a mask's pixels are kept as (w, h), the order of COCO's runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from condinst.evaluation.scores import IOU_THRESHOLDS
from condinst.layers.loop_cache import cached_loop, forget_stale

DILATION = 0.02  # of the image's diagonal


class Band(NamedTuple):
    """The pixels along a mask's contour.

    Attributes:
        left: Column of the first pixel of `inside`.
        top: Its row.
        inside: (w, h) uint8, 1 in the band, no larger than the mask.
        area: Pixels of the band.
    """

    left: int
    top: int
    inside: np.ndarray
    area: int


def band_width(size: Sequence[int]) -> int:
    """Pixels of a band's width in an image of that height and width, 1 at least."""
    return max(round(DILATION * math.hypot(*size)), 1)


def contour_band(mask: Mapping[str, Any]) -> Band:
    """The band along a mask's contour; an empty one has no pixels.

    Args:
        mask: Compressed RLE.
    """
    counts, size = mask["counts"], mask["size"]
    text = counts.encode() if isinstance(counts, str) else counts
    left, top, inside = _band(np.frombuffer(text, np.uint8), *size, band_width(size))
    return Band(left, top, inside, int(np.count_nonzero(inside)))


def boundary_iou(one: Band, other: Band) -> float:
    """IoU of two bands; 0 where both are empty."""
    left, top = max(one.left, other.left), max(one.top, other.top)
    a = one.inside[left - one.left :, top - one.top :]
    b = other.inside[left - other.left :, top - other.top :]
    w, h = min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])
    shared = int(np.count_nonzero(a[:w, :h] & b[:w, :h]))
    union = one.area + other.area - shared
    return shared / union if union else 0.0


def lesser_ious(
    ious: np.ndarray,
    detections: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    crowd: np.ndarray,
) -> np.ndarray:
    """The lesser of mask IoU and boundary IoU; the mask's alone for crowds.

    Where the mask's is below the lowest threshold, nothing can match and it stays as it is.

    Args:
        ious: (D, G) IoU of the masks.
        detections: D compressed RLE.
        objects: G compressed RLE.
        crowd: (G,) whether the object is a crowd region.
    """
    near = np.nonzero((ious >= IOU_THRESHOLDS[0]) & ~crowd)
    pairs = list(zip(*(index.tolist() for index in near), strict=True))
    found = {d: contour_band(detections[d]) for d in {d for d, _ in pairs}}
    true = {g: contour_band(objects[g]) for g in {g for _, g in pairs}}
    lesser = ious.copy()
    for d, g in pairs:
        lesser[d, g] = min(ious[d, g], boundary_iou(found[d], true[g]))
    return lesser


@cached_loop()
def _band(text: np.ndarray, height: int, width: int, reach: int) -> tuple[int, int, np.ndarray]:
    """Column and row of a mask's first pixel, and its band (w, h), from the text of its runs.

    Args:
        text: (N,) characters of the compressed counts.
        height: Of the image.
        width: Of the image.
        reach: Of the band, pixels.
    """
    ends = np.zeros(len(text) + 1, np.int64)  # of each run, columns one below the other
    runs = _read_ends(text, height * width, ends)
    left, right, top, bottom = width, -1, height, -1
    for k in range(1, runs, 2):
        if ends[k] > ends[k - 1]:
            first, last = ends[k - 1] // height, (ends[k] - 1) // height
            left, right = min(left, first), max(right, last)
            whole = first != last  # it goes over the end of a column
            top = 0 if whole else min(top, ends[k - 1] % height)
            bottom = height - 1 if whole else max(bottom, (ends[k] - 1) % height)
    if right < 0:
        return 0, 0, np.zeros((0, 0), np.uint8)
    inside = np.zeros((right - left + 1, bottom - top + 1), np.uint8)
    deep = np.zeros_like(inside)  # what is farther than `reach` from the outside in its column
    for k in range(1, runs, 2):
        place = ends[k - 1]
        while place < ends[k]:
            column, row = divmod(place, height)
            end = min(ends[k] - column * height, height)
            inside[column - left, row - top : end - top] = 1
            deep[column - left, row + reach - top : max(end - reach, row + reach) - top] = 1
            place = column * height + end
    _hollow(inside, deep, reach)
    return left, top, inside


@cached_loop()
def _hollow(inside: np.ndarray, deep: np.ndarray, reach: int) -> None:
    """Takes out of `inside` what lies deep in `reach` columns to both sides as well."""
    columns, rows = deep.shape
    so_far = np.zeros(rows, np.int32)  # deep columns in a row
    for x in range(columns):
        for y in range(rows):
            so_far[y] = (so_far[y] + 1) * deep[x, y]
        if x >= 2 * reach:
            for y in range(rows):
                inside[x - reach, y] &= so_far[y] <= 2 * reach


@cached_loop()
def _read_ends(text: np.ndarray, last: int, ends: np.ndarray) -> int:
    """Writes where each run ends and returns how many there are.

    `condinst.annotations.rle` tells the format; reading it there takes longer than all the rest.
    """
    count, place, number = 0, 0, 0
    end, before, former = 0, 0, 0  # the two runs before this one
    while place < len(text):
        value, shift, more = 0, 0, True
        while more and place < len(text):
            bits = np.int64(text[place]) - 48
            value |= (bits & 31) << shift
            more = (bits & 32) != 0
            place += 1
            shift += 5
            if not more and bits & 16:
                value |= np.int64(-1) << shift
        length = value + before if number > 2 else value
        before, former, number = former, length, number + 1
        if length == 0 and count > 0:  # what is around it is one run
            count -= 1
            continue
        end = min(max(end + length, end), last)
        ends[count] = end
        count += 1
    return count


forget_stale(_band, Path(__file__).parent)
