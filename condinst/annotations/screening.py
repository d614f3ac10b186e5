"""Which annotations are sound beyond doubt, many at a time.

Letters: ``n`` annotations of a chunk; ``P`` their polygons; ``V`` all points of these.

What passes here is used as it is; everything else :mod:`condinst.annotations.mending` looks at one
by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Set
from itertools import chain, compress
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_tools

from condinst.annotations import rle, scales
from condinst.annotations.box_readings import as_corners, overlap
from condinst.annotations.frames import Votes
from condinst.annotations.ids import canonical
from condinst.annotations.polygons import NEAR, problem
from condinst.files.bounds import FAR, OUTLINE

MARGIN = 1.0  # pixels that an outline may stick out by: rounding

Entry = dict[str, Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Screened(NamedTuple):
    """What is known of a chunk.

    Attributes:
        sound: (n,) nothing is wrong.
        rows: (n,) of each one's image; -1: unknown.
        around: (n, 4) corners of what the mask covers; NaN for crowds and where unknown.
    """

    sound: Bools
    rows: NDArray[np.int_]
    around: Floats


class KnownImages(NamedTuple):
    """Images by id: their row in ``sizes`` (N, 2), width and height.

    Attributes:
        rows: of ids that are used as they stand.
        sizes: of all images.
        others: row of any id in its canonical form.
    """

    rows: Mapping[int, int]
    sizes: Floats
    others: Mapping[Any, int] = MappingProxyType({})


def screen(
    chunk: list[Any], known_images: KnownImages, categories: Set[int], votes: Votes | None = None
) -> Screened:
    """Look at a chunk of annotations, at least one.

    Ids that are used twice are not looked for.

    Args:
        chunk: as they stand.
        known_images: that they may belong to.
        categories: ids that are used as they stand.
        votes: counts in which frames the coordinates may be.
    """
    entries = [entry if type(entry) is dict else {} for entry in chunk]
    n = len(entries)
    ids = [entry.get("id") for entry in entries]
    sound = np.fromiter((type(v) is int and 0 < v < 2**63 for v in ids), bool, n)
    owners = [entry.get("image_id") for entry in entries]
    rows = np.fromiter(
        (known_images.rows.get(v, -1) if type(v) is int else -1 for v in owners), int, n
    )
    sound &= rows >= 0
    sound &= np.fromiter(("unread" not in entry for entry in entries), bool, n)
    for k in np.flatnonzero(rows < 0).tolist():
        rows[k] = known_images.others.get(canonical(owners[k]), -1)
    labels = [entry.get("category_id") for entry in entries]
    sound &= np.fromiter((type(v) is int and v in categories for v in labels), bool, n)
    flags = [entry.get("iscrowd") for entry in entries]
    sound &= np.fromiter((type(v) is int and (v == 0 or v == 1) for v in flags), bool, n)
    crowd = np.fromiter((v == 1 for v in flags), bool, n)
    boxes, numeric = _boxes([entry.get("bbox") for entry in entries])
    areas = _numbers([[entry.get("area")] for entry in entries], sound)[:, 0]
    sizes = known_images.sizes[rows] if len(known_images.sizes) else np.zeros((n, 2))
    sizes[rows < 0] = 0
    masks = [entry.get("segmentation") for entry in entries]
    drawn = np.fromiter((type(v) is list for v in masks), bool, n)
    around, enclosed = _masks(masks, sizes, crowd, drawn, sound)
    if votes is not None:
        votes.resized(_other_sizes(masks, sizes, crowd))
        lone = np.fromiter((v is None or v == [] for v in masks), bool, n) & (rows >= 0)
        lone &= numeric & ~crowd
        votes.lone.add(boxes[lone], sizes[lone])
    known = (rows >= 0) & ~np.isnan(around[:, 0]) & ~crowd
    if votes is not None:
        votes.add(boxes[known], around[known], sizes[known], drawn[known], numeric[known])
    sound &= np.isfinite(areas) & (areas >= 0) & numeric
    sound &= _inside(boxes, sizes) & ~(drawn & scales.shares(around, sizes)[1])
    compared = sound & known
    good = _fits(as_corners(boxes[compared]), around[compared])
    extent = np.prod(around[compared, 2:] - around[compared, :2], axis=1)
    good &= areas[compared] <= 1.1 * extent + 4
    good &= areas[compared] >= 0.5 * enclosed[compared] - 4
    sound[compared] = good
    return Screened(sound, rows, around)


def _numbers(lists: list[Any], sound: Bools) -> Floats:
    """Lists of one length each as an array; rows that are not all numbers are no longer sound."""
    width = len(lists[0]) if lists else 1
    try:
        return np.frombuffer(array("d", chain.from_iterable(lists))).reshape(-1, width)
    except (TypeError, OverflowError):
        pass
    values = np.full((len(lists), width), np.nan)
    for row, given in enumerate(lists):
        try:
            values[row] = array("d", given)
        except (TypeError, OverflowError):
            sound[row] = False
    return values


def _boxes(given: list[Any]) -> tuple[Floats, Bools]:
    """Boxes (n, 4), and which of them (n,) are four finite numbers."""
    whole = np.array([type(box) is list and len(box) == 4 for box in given], bool)
    nothing = [0.0] * 4
    filled = [box if right else nothing for box, right in zip(given, whole, strict=True)]
    boxes = _numbers(filled, whole)
    return boxes, whole & np.isfinite(boxes).all(1)


def _inside(boxes: Floats, sizes: Floats) -> Bools:
    """Whether boxes have a size and stick out of their image by no more than rounding."""
    ends = boxes[:, :2] + boxes[:, 2:]
    right = (boxes[:, 2:] > 0, boxes[:, :2] >= -MARGIN, ends <= sizes + MARGIN)
    return np.logical_and.reduce(np.concatenate(right, axis=1), axis=1)


def _masks(
    given: list[Any], sizes: Floats, crowd: Bools, drawn: Bools, sound: Bools
) -> tuple[Floats, Floats]:
    """Boxes x0, y0, x1, y1 around the masks (n, 4), and their areas (n,); NaN where unknown."""
    n = len(given)
    around, enclosed = np.full((n, 4), np.nan), np.full(n, np.nan)
    coded = np.fromiter((type(v) is dict for v in given), bool, n)
    sound &= coded | (drawn & ~crowd)
    rows, parts = [], []
    for k in np.flatnonzero(coded & (sizes[:, 0] > 0)).tolist():
        width, height = map(int, sizes[k])
        if rle.problem(given[k], height, width) is not None:
            sound[k] = False
        elif not crowd[k]:  # regions' boxes and areas are rough in COCO too
            rows.append(k)
            parts.append({"size": [height, width], "counts": rle.compress(given[k])})
    if rows:
        around[rows] = as_corners(mask_tools.toBbox(parts))
        # one by one: a list of 256 overflows in pycocotools
        enclosed[rows] = [mask_tools.area(part) for part in parts]
    rows = np.flatnonzero(drawn)
    lists = [given[k] for k in rows]
    flat = _flat(lists)
    if flat is None:
        right = [bool(parts) and not any(map(problem, parts)) for parts in lists]
        sound[rows] &= right
        rows, lists = rows[right], list(compress(lists, right))
        flat = _flat(lists)
    assert flat is not None, lists
    if len(rows):
        around[rows], enclosed[rows] = _measure(*flat)
        low, high = around[rows, :2], around[rows, 2:]
        inside = (low >= -MARGIN) & (high <= sizes[rows] + MARGIN) & (high > low)
        sound[rows] &= inside.all(1)
    return around, enclosed


def _other_sizes(
    given: list[Any], sizes: Floats, crowd: Bools
) -> Iterator[tuple[list[int], list[int]]]:
    """(height, width) of run-length masks and of their images, where these differ."""
    for k, mask in enumerate(given):
        if type(mask) is not dict or crowd[k] or not sizes[k, 0]:
            continue
        size, image = mask.get("size"), [int(sizes[k, 1]), int(sizes[k, 0])]
        whole = type(size) is list and all(type(side) is int and 0 < side < FAR for side in size)
        if whole and len(size) == 2 and size != image:
            yield size, image


def _flat(lists: list[Any]) -> tuple[Floats, NDArray[np.int_], NDArray[np.int_]] | None:
    """All points (V, 2), points a polygon (P,), polygons an annotation (n,); None: some are odd."""
    counts = np.fromiter(map(len, lists), int, len(lists))
    parts = list(chain.from_iterable(lists))
    if not counts.all() or not set(map(type, parts)) <= {list}:
        return None
    lengths = np.fromiter(map(len, parts), int, len(parts))
    if ((lengths < 6) | (lengths % 2 == 1)).any():
        return None
    try:
        values = np.array(array("d", chain.from_iterable(parts)))
    except (TypeError, OverflowError):
        return None
    if not (np.abs(values) <= FAR).all():  # NaN is not within any bound
        return None
    if values.size and lengths.max() * np.ptp(values) > OUTLINE and any(map(problem, parts)):
        return None
    return values.reshape(-1, 2), lengths // 2, counts


def _measure(
    points: Floats, lengths: NDArray[np.int_], counts: NDArray[np.int_]
) -> tuple[Floats, Floats]:
    """Boxes around annotations (n, 4) and their areas (n,).

    Args:
        points: (V, 2).
        lengths: (P,) points of each polygon.
        counts: (n,) polygons of each annotation.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    firsts = np.cumsum(counts) - counts  # polygon that each annotation begins with
    low = np.minimum.reduceat(points, starts[firsts])
    high = np.maximum.reduceat(points, starts[firsts])
    x, y = points[:, 0], points[:, 1]
    after = np.arange(1, len(points) + 1)
    after[ends - 1] = starts
    areas = np.abs(np.add.reduceat(x * y[after] - x[after] * y, starts)) / 2
    return np.concatenate((low, high), axis=1), np.add.reduceat(areas, firsts)


def _fits(boxes: Floats, around: Floats) -> Bools:
    """As :func:`condinst.annotations.polygons.fits`."""
    return (overlap(boxes, around) >= 0.5) | (np.abs(boxes - around).max(1, initial=0) <= NEAR)
