"""The loops of `kernels` written out for the paper's network: 2 coordinates and 8 features, 8-8-1.

A pixel's numbers stay in registers from the first layer to the last, and vectors run over pixels.
All rows of a tile lie in one array at fixed distances, so that the compiler sees that none overlap.
Whoever changes this must touch `kernels.py` too, see `vector_exp`.

Letters: as in `kernels`; in the loop ``x`` features, ``h`` and ``g`` the hidden layers.
"""

from __future__ import annotations

from typing import Any

import numba

T = 256  # pixels of a tile, whose rows fit into 11 KB
ROWS = 11  # coordinates, features, and what comes out
_W1, _W2, _B0, _B1, _B2 = 80, 144, 152, 160, 168  # where weights and biases start
_PART: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "fastmath": {"contract", "nsz"},
}


@numba.njit(**_PART)
def suits(channels, given):
    """Whether the network is the one of this module."""
    if len(channels) != 4 or given != 8:
        return False
    return channels[0] == 10 and channels[1] == 8 and channels[2] == 8 and channels[3] == 1


@numba.njit(**_PART)
def _dot(p, at, x0, x1, x2, x3, x4, x5, x6, x7):
    low = p[at] * x0 + p[at + 1] * x1 + p[at + 2] * x2 + p[at + 3] * x3
    at += 4
    return low + p[at] * x4 + p[at + 1] * x5 + p[at + 2] * x6 + p[at + 3] * x7


@numba.njit(**_PART)
def _forward(p, c, n):
    """Logits of the first n pixels, into the last row, from the rows before."""
    zero = p.dtype.type(0)
    for t in range(n):
        a, b = c[t], c[T + t]
        x0, x1 = c[2 * T + t], c[2 * T + T + t]
        x2, x3 = c[2 * T + 2 * T + t], c[2 * T + 3 * T + t]
        x4, x5 = c[2 * T + 4 * T + t], c[2 * T + 5 * T + t]
        x6, x7 = c[2 * T + 6 * T + t], c[2 * T + 7 * T + t]
        h0 = p[_B0] + p[0] * a + p[1] * b
        h0 = max(h0 + _dot(p, 2, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h1 = p[_B0 + 1] + p[10] * a + p[11] * b
        h1 = max(h1 + _dot(p, 12, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h2 = p[_B0 + 2] + p[20] * a + p[21] * b
        h2 = max(h2 + _dot(p, 22, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h3 = p[_B0 + 3] + p[30] * a + p[31] * b
        h3 = max(h3 + _dot(p, 32, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h4 = p[_B0 + 4] + p[40] * a + p[41] * b
        h4 = max(h4 + _dot(p, 42, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h5 = p[_B0 + 5] + p[50] * a + p[51] * b
        h5 = max(h5 + _dot(p, 52, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h6 = p[_B0 + 6] + p[60] * a + p[61] * b
        h6 = max(h6 + _dot(p, 62, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        h7 = p[_B0 + 7] + p[70] * a + p[71] * b
        h7 = max(h7 + _dot(p, 72, x0, x1, x2, x3, x4, x5, x6, x7), zero)
        g0 = max(p[_B1] + _dot(p, _W1, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g1 = max(p[_B1 + 1] + _dot(p, _W1 + 8, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g2 = max(p[_B1 + 2] + _dot(p, _W1 + 16, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g3 = max(p[_B1 + 3] + _dot(p, _W1 + 24, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g4 = max(p[_B1 + 4] + _dot(p, _W1 + 32, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g5 = max(p[_B1 + 5] + _dot(p, _W1 + 40, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g6 = max(p[_B1 + 6] + _dot(p, _W1 + 48, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        g7 = max(p[_B1 + 7] + _dot(p, _W1 + 56, h0, h1, h2, h3, h4, h5, h6, h7), zero)
        c[10 * T + t] = p[_B2] + _dot(p, _W2, g0, g1, g2, g3, g4, g5, g6, g7)


@numba.njit(**_PART)
def logits(heads, k, cells, out):
    """Instance k's logits into ``out`` (h w,); ``cells`` (ROWS T,) is room for a tile."""
    params, features = heads.params[k], heads.features[heads.images[k]]
    for start in range(0, len(out), T):
        n = min(T, len(out) - start)
        for i in range(2):
            origin, inverse = heads.origins[k, i], heads.inverses[k]
            row, points = cells[i * T : i * T + n], heads.points[i, start : start + n]
            for t in range(n):
                row[t] = (origin - points[t]) * inverse
        for i in range(8):
            row, given = cells[(2 + i) * T : (2 + i) * T + n], features[i, start : start + n]
            for t in range(n):
                row[t] = given[t]
        _forward(params, cells, n)
        for t in range(n):
            out[start + t] = cells[10 * T + t]
