"""Compiled loops from probabilities to final masks, line by line.

A final mask is two interpolations of a map of probabilities and a threshold: a pixel mixes
three by three cells. Only lines and columns that a cell over one half can reach are computed.

Letters: ``K`` instances, ``h, w`` size of the probabilities, ``H, W`` size of the masks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from condinst.layers.loop_cache import cached_loop

_ENTRY: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_ENTRY["fastmath"] = {"contract", "nsz"}
_PART: dict[str, Any] = _ENTRY | {
    "no_cpython_wrapper": True,
}


class Window(NamedTuple):
    """Two interpolations in a row along one axis: pixel i mixes cells start[i] to start[i] + 2.

    Attributes:
        start: (n,), rising.
        weights: (n, 3).
    """

    start: np.ndarray
    weights: np.ndarray


@numba.njit(**_PART)
def _reach(probs, down, across):
    """First and last + 1 line and column that a cell over one half can reach."""
    half = probs.dtype.type(0.5)
    top, bottom, left, right = len(probs), -1, probs.shape[1], -1
    for r in range(len(probs)):
        row, first, last = probs[r], -1, -1
        for c in range(len(row)):
            if row[c] > half:
                first = c if first < 0 else first
                last = c
        if first >= 0:
            top, bottom = min(top, r), r
            left, right = min(left, first), max(right, last)
    if bottom < 0:
        return 0, 0, 0, 0
    return (
        np.searchsorted(down.start, top - 2),
        np.searchsorted(down.start, bottom + 1),
        np.searchsorted(across.start, left - 2),
        np.searchsorted(across.start, right + 1),
    )


@numba.njit(**_PART)
def _line(probs, i, down, across, left, right, ring, held, out):
    """Pixels left to right of line i into ``out``; ring holds widened rows r in slots r % 3."""
    first, half = down.start[i], probs.dtype.type(0.5)
    for r in range(first, first + 3):
        slot = r % 3
        if held[slot] == r:
            continue
        held[slot] = r
        row, wide = probs[r], ring[slot]
        for x in range(left, right):
            c = across.start[x]
            wide[x] = (
                across.weights[x, 0] * row[c]
                + across.weights[x, 1] * row[c + 1]
                + across.weights[x, 2] * row[c + 2]
            )
    a, b, c = ring[first % 3], ring[(first + 1) % 3], ring[(first + 2) % 3]
    u, v, w = down.weights[i, 0], down.weights[i, 1], down.weights[i, 2]
    for x in range(left, right):
        out[x] = u * a[x] + v * b[x] + w * c[x] > half


@cached_loop(**_ENTRY)
def draw(probs, down, across, out):
    """Masks of probabilities (K, h, w) into ``out`` (K, H, W) bool, which holds False."""
    ring, held = np.empty((3, out.shape[2]), probs.dtype), np.empty(3, np.int64)
    for k in range(len(probs)):
        top, bottom, left, right = _reach(probs[k], down, across)
        held[0] = held[1] = held[2] = -1
        for i in range(top, bottom):
            _line(probs[k], i, down, across, left, right, ring, held, out[k, i])


@numba.njit(**_PART)
def _more(runs):
    wider = np.empty(2 * len(runs), np.int64)
    for i in range(len(runs)):
        wider[i] = runs[i]
    return wider


@numba.njit(**_PART)
def _collect(probs, down, across, ring, held, line, runs):
    """Lengths of runs of zeros and ones in turn, zeros first; the array, and how many."""
    wide, count, began, value = len(line), 0, 0, False
    top, bottom, left, right = _reach(probs, down, across)
    held[0] = held[1] = held[2] = -1
    for i in range(top, bottom):
        _line(probs, i, down, across, left, right, ring, held, line)
        if count + wide + 2 > len(runs):
            runs = _more(runs)
        for x in range(left, right):
            if line[x] != value:
                place = i * wide + x
                runs[count], began, value = place - began, place, not value
                count += 1
        if value and (right < wide or left > 0 or i == bottom - 1):
            place = i * wide + right
            runs[count], began, value = place - began, place, False
            count += 1
    total = len(down.start) * wide
    if began < total or count == 0:
        runs[count] = total - began
        count += 1
    return runs, count


@numba.njit(**_PART)
def _compress(runs, count, text):
    """COCO's text of the runs (see `condinst.annotations.rle`); how many characters."""
    n = 0
    for i in range(count):
        rest = runs[i] - runs[i - 2] if i > 2 else runs[i]
        more = True
        while more:
            digit = rest & 31
            rest >>= 5
            more = rest != -1 if digit & 16 else rest != 0
            text[n] = (digit | 32 if more else digit) + 48
            n += 1
    return n


@cached_loop(**_ENTRY)
def encode(probs, down, across):
    """COCO's compressed text of masks whose lines are image columns; one array of bytes a mask.

    Args:
        probs: (K, w, h), columns first.
        down: (W,) along the lines.
        across: (H,) within one.
    """
    wide, texts = len(across.start), []
    ring, held = np.empty((3, wide), probs.dtype), np.empty(3, np.int64)
    line, runs = np.zeros(wide, np.bool_), np.empty(4 * wide + 8, np.int64)
    for k in range(len(probs)):
        runs, count = _collect(probs[k], down, across, ring, held, line, runs)
        text = np.empty(7 * count, np.uint8)
        texts.append(text[: _compress(runs, count, text)].copy())
    return texts
