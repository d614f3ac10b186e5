"""The transforms of `winograd`, compiled; they release the interpreter's lock.

Tiles of 6 x 6 cells overlap by two and give 4 x 4 cells. Vectors run over channels, ``_BLOCK`` at a
time, in one array of rows at fixed distances, so that the compiler can see that none overlap.

Letters: ``h, w`` size of a map, ``T`` tiles of a chunk, ``C`` channels; tiles count row by row.
"""

from __future__ import annotations

import numba
import numpy as np

from condinst.modeling.mask_head.kernels import ENTRY, PART

_BLOCK = 64  # channels whose 36 rows fit into 10 KB


@numba.njit(**PART)
def _into(s, at, step):
    """Six rows of cells, ``step`` apart, to the six points."""
    b, kind = _BLOCK, s.dtype.type
    two, four, five = kind(2), kind(4), kind(5)
    for c in range(at, at + b):
        d0, d1, d2 = s[c], s[c + step * b], s[c + 2 * step * b]
        d3, d4, d5 = s[c + 3 * step * b], s[c + 4 * step * b], s[c + 5 * step * b]
        even, odd = d4 - four * d2, d3 - four * d1
        further, twice = d4 - d2, two * (d3 - d1)
        s[c] = four * d0 - five * d2 + d4
        s[c + step * b] = even + odd
        s[c + 2 * step * b] = even - odd
        s[c + 3 * step * b] = further + twice
        s[c + 4 * step * b] = further - twice
        s[c + 5 * step * b] = four * d1 - five * d3 + d5


@numba.njit(**PART)
def _back(s, at, step):
    """Six rows of points, ``step`` apart, to four rows of cells, in place of the first."""
    b, kind = _BLOCK, s.dtype.type
    two, four, eight = kind(2), kind(4), kind(8)
    for c in range(at, at + b):
        m0, m1, m2 = s[c], s[c + step * b], s[c + 2 * step * b]
        m3, m4, m5 = s[c + 3 * step * b], s[c + 4 * step * b], s[c + 5 * step * b]
        near, apart = m1 + m2, m1 - m2
        far, wide = m3 + m4, m3 - m4
        s[c] = m0 + near + far
        s[c + step * b] = apart + two * wide
        s[c + 2 * step * b] = near + four * far
        s[c + 3 * step * b] = apart + eight * wide + m5


@numba.njit(**ENTRY)
def into_points(x, first, span, out):
    """Map (h, w, C) to points (36, T, C), for tiles ``first + span[0]`` to ``first + span[1]``."""
    h, w, channels = x.shape
    across = (w + 3) // 4
    s = np.empty(36 * _BLOCK, x.dtype)
    for t in range(span[0], span[1]):
        top, left = (first + t) // across * 4 - 1, (first + t) % across * 4 - 1
        for c in range(0, channels, _BLOCK):
            for i in range(6):
                for j in range(6):
                    y, z, at = top + i, left + j, (i * 6 + j) * _BLOCK
                    row = s[at : at + _BLOCK]
                    if y < 0 or y >= h or z < 0 or z >= w:
                        row[:] = 0
                    else:
                        row[:] = x[y, z, c : c + _BLOCK]
            for j in range(6):
                _into(s, j * _BLOCK, 6)
            for i in range(6):
                _into(s, i * 6 * _BLOCK, 1)
            for i in range(36):
                out[i, t, c : c + _BLOCK] = s[i * _BLOCK : (i + 1) * _BLOCK]


@numba.njit(**ENTRY)
def from_points(points, first, span, bias, added, relu, out):
    """Points (36, T, C) to cells of a map (h, w, C); ``added`` is such a map, or empty."""
    h, w, channels = out.shape
    across, zero = (w + 3) // 4, out.dtype.type(0)
    s = np.empty(36 * _BLOCK, out.dtype)
    for t in range(span[0], span[1]):
        top, left = (first + t) // across * 4, (first + t) % across * 4
        for c in range(0, channels, _BLOCK):
            for i in range(36):
                s[i * _BLOCK : (i + 1) * _BLOCK] = points[i, t, c : c + _BLOCK]
            for j in range(6):
                _back(s, j * _BLOCK, 6)
            for i in range(4):
                _back(s, i * 6 * _BLOCK, 1)
            b = bias[c : c + _BLOCK]
            for i in range(min(4, h - top)):
                for j in range(min(4, w - left)):
                    at = (i * 6 + j) * _BLOCK
                    made = s[at : at + _BLOCK]
                    row = out[top + i, left + j, c : c + _BLOCK]
                    if len(added):
                        other = added[top + i, left + j, c : c + _BLOCK]
                        for n in range(_BLOCK):
                            made[n] += other[n]
                    if relu:
                        for n in range(_BLOCK):
                            row[n] = max(made[n] + b[n], zero)
                    else:
                        for n in range(_BLOCK):
                            row[n] = made[n] + b[n]
