"""The compiled loops of the `numba` backend; they release the interpreter's lock.

Written so that the compiler turns every innermost loop into vector instructions: contiguous
rows, few arrays a loop, no exceptions.

Letters: ``B`` images, ``C`` mask features, ``h, w`` their size, ``K`` instances, ``N`` parameters
of one, ``H, W`` size of the supervised or final masks, ``T`` pixels of a tile.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from condinst.layers.loop_cache import cached_loop
from condinst.modeling.mask_head import paper_kernels
from condinst.modeling.mask_head.kernel_types import Tile
from condinst.modeling.mask_head.vector_exp import vector_exp

_TILE = 256  # pixels whose activations and gradients fit into 48 KB
ENTRY: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
ENTRY["fastmath"] = {"contract", "nsz"}
PART: dict[str, Any] = ENTRY | {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
_SUMS: dict[str, Any] = PART | {"fastmath": {"contract", "nsz", "reassoc"}}


@numba.njit(**PART)
def _mix(params, at, step, outputs, stride, inputs, x, x_at, out, out_at, n):
    """out[o, t] += sum over i of params[at + o step + i stride] x[i, t]."""
    for o in range(outputs):
        row = out[o, out_at : out_at + n]
        base = at + o * step
        i = 0
        while i + 4 <= inputs:
            w0, w1 = params[base + i * stride], params[base + (i + 1) * stride]
            w2, w3 = params[base + (i + 2) * stride], params[base + (i + 3) * stride]
            x0, x1 = x[i, x_at : x_at + n], x[i + 1, x_at : x_at + n]
            x2, x3 = x[i + 2, x_at : x_at + n], x[i + 3, x_at : x_at + n]
            for t in range(n):
                row[t] += w0 * x0[t] + w1 * x1[t] + w2 * x2[t] + w3 * x3[t]
            i += 4
        for j in range(i, inputs):
            w0, x0 = params[base + j * stride], x[j, x_at : x_at + n]
            for t in range(n):
                row[t] += w0 * x0[t]


@numba.njit(**_SUMS)
def _weight_gradients(gradients, outputs, x, x_at, inputs, n, out, at, step):
    """out[at + o step + i] += sum over t of gradients[o, t] x[i, t]."""
    zero = gradients.dtype.type(0)
    for o in range(outputs):
        s = gradients[o, :n]
        base = at + o * step
        i = 0
        while i + 4 <= inputs:
            x0, x1 = x[i, x_at : x_at + n], x[i + 1, x_at : x_at + n]
            x2, x3 = x[i + 2, x_at : x_at + n], x[i + 3, x_at : x_at + n]
            a0, a1, a2, a3 = zero, zero, zero, zero
            for t in range(n):
                a0 += s[t] * x0[t]
                a1 += s[t] * x1[t]
                a2 += s[t] * x2[t]
                a3 += s[t] * x3[t]
            out[base + i] += a0
            out[base + i + 1] += a1
            out[base + i + 2] += a2
            out[base + i + 3] += a3
            i += 4
        for j in range(i, inputs):
            x0, a0 = x[j, x_at : x_at + n], zero
            for t in range(n):
                a0 += s[t] * x0[t]
            out[base + j] += a0


@numba.njit(**_SUMS)
def _total(row, n):
    total = row.dtype.type(0)
    for t in range(n):
        total += row[t]
    return total


@numba.njit(**PART)
def _set(rows, count, n):
    """Zeros into the first n of ``count`` rows."""
    for i in range(count):
        for t in range(n):
            rows[i, t] = 0


@numba.njit(**PART)
def _num_weights(channels):
    total = 0
    for layer in range(len(channels) - 1):
        total += channels[layer] * channels[layer + 1]
    return total


@numba.njit(**PART)
def make_tile(heads):
    """Room for one tile of these networks."""
    depth, rows = len(heads.channels) - 1, 1
    for layer in range(depth):
        rows = max(rows, heads.channels[layer + 1])
    kind = heads.params.dtype
    coords = np.empty((2, _TILE), kind)
    acts, gradients = np.empty((depth, rows, _TILE), kind), np.empty((2, rows, _TILE), kind)
    cells = np.empty(paper_kernels.ROWS * paper_kernels.T, kind)
    return Tile(coords, acts, gradients, cells)


@numba.njit(**PART)
def run(heads, k, start, n, tile):
    """All layers of instance k on n pixels from ``start``; logits are the last layer's row 0."""
    channels, params = heads.channels, heads.params[k]
    features = heads.features[heads.images[k]]
    depth, given = len(channels) - 1, len(features)
    coords = channels[0] - given
    for c in range(coords):
        origin, inverse = heads.origins[k, c], heads.inverses[k]
        row, points = tile.coords[c], heads.points[c, start : start + n]
        for t in range(n):
            row[t] = (origin - points[t]) * inverse
    at, bias = 0, _num_weights(channels)
    for layer in range(depth):
        inputs, outputs, out = channels[layer], channels[layer + 1], tile.acts[layer]
        for o in range(outputs):
            row, start_value = out[o], params[bias + o]
            for t in range(n):
                row[t] = start_value
        if layer == 0:
            _mix(params, 0, inputs, outputs, 1, coords, tile.coords, 0, out, 0, n)
            _mix(params, coords, inputs, outputs, 1, given, features, start, out, 0, n)
        else:
            below = tile.acts[layer - 1]
            _mix(params, at, inputs, outputs, 1, inputs, below, 0, out, 0, n)
        if layer < depth - 1:
            for o in range(outputs):
                row = out[o]
                for t in range(n):
                    row[t] = max(row[t], params.dtype.type(0))
        at, bias = at + inputs * outputs, bias + outputs


@numba.njit(**PART)
def run_back(heads, k, start, n, tile, on_params, on_features):
    """Gradients of `run`, from those of the logits in ``tile.gradients[(depth - 1) % 2, 0]``."""
    channels, params = heads.channels, heads.params[k]
    features = heads.features[heads.images[k]]
    depth, given = len(channels) - 1, len(features)
    coords = channels[0] - given
    at, bias = _num_weights(channels), len(params)
    for layer in range(depth - 1, -1, -1):
        inputs, outputs, gradients = channels[layer], channels[layer + 1], tile.gradients[layer % 2]
        at, bias = at - inputs * outputs, bias - outputs
        for o in range(outputs):
            on_params[bias + o] += _total(gradients[o], n)
        if layer == 0:
            _weight_gradients(gradients, outputs, tile.coords, 0, coords, n, on_params, 0, inputs)
            _weight_gradients(
                gradients, outputs, features, start, given, n, on_params, coords, inputs
            )
            _mix(params, coords, 1, given, inputs, outputs, gradients, 0, on_features, start, n)
            continue
        below, further = tile.acts[layer - 1], tile.gradients[(layer - 1) % 2]
        _weight_gradients(gradients, outputs, below, 0, inputs, n, on_params, at, inputs)
        _set(further, inputs, n)
        _mix(params, at, 1, inputs, inputs, outputs, gradients, 0, further, 0, n)
        for i in range(inputs):
            row, act = further[i], below[i]
            for t in range(n):
                row[t] = row[t] if act[t] > 0 else params.dtype.type(0)


@numba.njit(**PART)
def logits_of(heads, k, tile, out):
    """Instance k's logits into ``out`` (h w,)."""
    if paper_kernels.suits(heads.channels, heads.features.shape[1]):
        paper_kernels.logits(heads, k, tile.cells, out)
        return
    made = tile.acts[len(heads.channels) - 2, 0]
    for start in range(0, len(out), _TILE):
        n = min(_TILE, len(out) - start)
        run(heads, k, start, n, tile)
        for t in range(n):
            out[start + t] = made[t]


@numba.njit(**PART)
def widen(cells, at, w, columns, out):
    """Interpolates ``cells[at : at + w]``."""
    for x in range(len(out)):
        j = columns.low[x]
        near, far = cells[at + j], cells[at + min(j + 1, w - 1)]
        out[x] = near + columns.fraction[x] * (far - near)


@numba.njit(**PART)
def _narrow(gradients, columns, out, at, w):
    """The transpose of `widen` for both rows of gradients: adds to ``out``, and empties them."""
    zero = out.dtype.type(0)
    for s in range(2):
        row, cells, here, near, far = gradients[s], out[s], columns.low[0], zero, zero
        for x in range(len(row)):
            if columns.low[x] != here:
                cells[at + here] += near
                cells[at + here + 1] += far
                here, near, far = columns.low[x], zero, zero
            part = row[x] * columns.fraction[x]
            near += row[x] - part
            far += part
            row[x] = zero
        cells[at + here] += near
        if here + 1 < w:
            cells[at + here + 1] += far


@numba.njit(**_SUMS)
def _dice_row(above, below, fraction, truth, product, squares):
    """Sums of p t, p^2 and t along a row; fills the gradients of the first two by the logits."""
    zero, one = above.dtype.type(0), above.dtype.type(1)
    pt, pp, tt = zero, zero, zero
    for x in range(len(above)):
        e = vector_exp(-(above[x] + fraction * (below[x] - above[x])))
        p = one / (one + e)
        t = one if truth[x] else zero
        gradient = p * (p * e)  # p (1 - p)
        pt += p * t
        pp += p * p
        tt += t
        product[x] = gradient * t
        squares[x] = (gradient + gradient) * p
    return pt, pp, tt


@numba.njit(**PART)
def _add_scaled(out, factor, x):
    for t in range(len(out)):
        out[t] += factor * x[t]


@numba.njit(**PART)
def _dice(logits, h, w, truth, rows, columns, gradients, sums, wanted):
    """Dice's sums over the enlarged map, row by row; and their gradients (2, h w) by the logits."""
    wide, one = truth.shape[1], logits.dtype.type(1)
    lines = np.zeros((2, wide), logits.dtype)  # source row r, enlarged, lies in r % 2
    carried = np.zeros((2, 2, wide), logits.dtype)  # what came back to it, for each sum
    row = np.empty((2, wide), logits.dtype)
    held = np.zeros(2, np.int64) - 1
    _set(gradients, 2, h * w)
    sums[0], sums[1], sums[2] = 0.0, 0.0, 0.0
    for y in range(len(truth)):
        low, f = rows.low[y], rows.fraction[y]
        for r in range(low, min(low + 2, h)):
            slot = r % 2
            if held[slot] == r:
                continue
            if wanted and held[slot] >= 0:
                _narrow(carried[slot], columns, gradients, held[slot] * w, w)
            held[slot] = r
            widen(logits, r * w, w, columns, lines[slot])
        near, far = low % 2, (low + 1) % 2
        pt, pp, tt = _dice_row(lines[near], lines[far], f, truth[y], row[0], row[1])
        sums[0] += pt
        sums[1] += pp
        sums[2] += tt
        if wanted:
            for s in range(2):
                _add_scaled(carried[near, s], one - f, row[s])
                if f > 0:
                    _add_scaled(carried[far, s], f, row[s])
    if wanted:
        for slot in range(2):
            if held[slot] >= 0:
                _narrow(carried[slot], columns, gradients, held[slot] * w, w)


@cached_loop(**ENTRY)
def dice_losses(
    heads,
    truth,
    rows,
    columns,
    constants,
    span,
    losses,
    on_params,
    on_features,
    wanted,
):
    """Dice of the instances of ``span``, and its gradients, added to (K, N) and (B, C, h w)."""
    h, w = heads.size[0], heads.size[1]
    logits = np.empty(h * w, heads.params.dtype)
    gradients = np.empty((2, h * w), heads.params.dtype)
    sums, tile = np.empty(3), make_tile(heads)
    depth = len(heads.channels) - 1
    for k in range(span[0], span[1]):
        logits_of(heads, k, tile, logits)
        mask = truth.masks[truth.targets[k]]
        _dice(logits, h, w, mask, rows, columns, gradients, sums, wanted)
        above, under = 2 * sums[0] + constants[0], sums[1] + sums[2] + constants[1]
        losses[k] = 1 - above / under
        if not wanted:
            continue
        on_product = heads.params.dtype.type(-2 / under)
        on_squares = heads.params.dtype.type(above / under**2)
        product, squares = gradients[0], gradients[1]
        for start in range(0, h * w, _TILE):
            n = min(_TILE, h * w - start)
            run(heads, k, start, n, tile)
            row = tile.gradients[(depth - 1) % 2, 0]
            for t in range(n):
                row[t] = on_product * product[start + t] + on_squares * squares[start + t]
            image = on_features[heads.images[k]]
            run_back(heads, k, start, n, tile, on_params[k], image)


@cached_loop(**ENTRY)
def probabilities(heads, rows, columns, span, out):
    """The enlarged maps' probabilities of the instances of ``span``: (K', H, W)."""
    h, w = heads.size[0], heads.size[1]
    logits, tile = np.empty(h * w, heads.params.dtype), make_tile(heads)
    lines, one = np.zeros((2, out.shape[2]), logits.dtype), logits.dtype.type(1)
    for k in range(span[0], span[1]):
        logits_of(heads, k, tile, logits)
        if out.shape[1] == h and out.shape[2] == w:  # nothing to enlarge
            row = out[k - span[0]].reshape(h * w)
            for x in range(len(row)):
                row[x] = one / (one + vector_exp(-logits[x]))
            continue
        held = np.zeros(2, np.int64) - 1
        for y in range(out.shape[1]):
            low, f = rows.low[y], rows.fraction[y]
            for r in range(low, min(low + 2, h)):
                if held[r % 2] != r:
                    held[r % 2] = r
                    widen(logits, r * w, w, columns, lines[r % 2])
            near, far, row = lines[low % 2], lines[(low + 1) % 2], out[k - span[0], y]
            for x in range(len(row)):
                row[x] = one / (one + vector_exp(-(near[x] + f * (far[x] - near[x]))))
