"""The compiled loops of BoxInst's losses; they release the interpreter's lock.

An instance at a time: its logits, enlarged (270 KB at 800 x 1344 and stride 4), their largest of
every row and column, and the pairs of pixels around its box alone. Of two pixels that are each
other's neighbour, the pair is computed once. With a = |x_i|, b = |x_j| and L(t) = log(1 + e^-t),

    -log(p_i p_j + (1 - p_i)(1 - p_j)) = [signs differ] min(a, b) + L(a) + L(b) - L(|x_i + x_j|),

its gradients are p_i - sigmoid(x_i + x_j) by x_i and p_j - sigmoid(x_i + x_j) by x_j. The
logarithms of a row are taken of products: each factor lies between 1 and 2.

Whoever changes what is compiled in from `kernels` must touch this file too (see `vector_exp`).

Letters: as in `kernels`; ``J`` neighbours of a pixel, of which J - 1 - j lies opposite to j.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from condinst.layers.loop_cache import cached_loop
from condinst.modeling.mask_head.kernels import (
    ENTRY,
    PART,
    logits_of,
    make_tile,
    run,
    run_back,
    widen,
)
from condinst.modeling.mask_head.vector_exp import vector_exp

_TILE = 256
_LIMIT = 900  # factors up to 2 whose product a double holds


@numba.njit(**PART)
def _enlarge(logits, size, rows, columns, lines, out):
    """Logits (h w,) to (H, W)."""
    h, w = size[0], size[1]
    lines[:] = 0
    first, second = -1, -1  # the source rows that lie in lines 0 and 1
    for y in range(len(out)):
        low, f = rows.low[y], rows.fraction[y]
        for r in range(low, min(low + 2, h)):
            if r % 2 == 0 and first != r:
                first = r
                widen(logits, r * w, w, columns, lines[0])
            if r % 2 == 1 and second != r:
                second = r
                widen(logits, r * w, w, columns, lines[1])
        near, far, row = lines[low % 2], lines[(low + 1) % 2], out[y]
        for x in range(len(row)):
            row[x] = near[x] + f * (far[x] - near[x])


@numba.njit(**PART)
def _largest(logits, down, down_at, across, across_at):
    """The largest of every column (W,) and row (H,) of logits (H, W), and where it lies first."""
    down[:] = logits[0]
    down_at[:] = 0
    for y in range(len(logits)):
        row = logits[y]
        for x in range(len(row)):
            above = row[x] > down[x]
            down[x] = row[x] if above else down[x]
            down_at[x] = y if above else down_at[x]
        best = row[0]
        for x in range(len(row)):
            best = max(best, row[x])
        at = 0
        while row[at] != best and at < len(row) - 1:
            at += 1
        across[y], across_at[y] = best, at


@numba.njit(**PART)
def _projection(values, start, end, gradients):
    """Dice of the sigmoids of values with ones from start to end; its gradients by the values."""
    product, squares = 0.0, 0.0
    for x in range(len(values)):
        p = 1.0 / (1.0 + math.exp(-min(max(values[x], -80.0), 80.0)))
        gradients[x] = p
        squares += p * p
        if start <= x < end:
            product += p
    under = squares + max(end - start, 0) + 1e-5
    for x in range(len(values)):
        p = gradients[x]
        gradient = 4 * product * p / under**2
        if start <= x < end:
            gradient -= 2 / under
        gradients[x] = gradient * p * (1 - p)
    return 1 - 2 * product / under


@numba.njit(**PART)
def _put(gradient, y, x, w, rows, columns, out):
    """Adds the gradient of one enlarged cell to the cells (h w,) that it mixes."""
    at, f, g = rows.low[y] * w + columns.low[x], rows.fraction[y], columns.fraction[x]
    near, far = gradient * (1 - f), gradient * f
    out[at] += near * (1 - g)
    if g > 0:
        out[at + 1] += near * g
    if f > 0:
        out[at + w] += far * (1 - g)
        if g > 0:
            out[at + w + 1] += far * g


@numba.njit(**PART)
def _prepare(logits, region, small, probs):
    """e^-|x| and sigmoid(x) of a region."""
    one = logits.dtype.type(1)
    for y in range(region[0], region[1]):
        row, e, p = logits[y], small[y], probs[y]
        for x in range(region[2], region[3]):
            e[x] = vector_exp(-abs(row[x]))
            r = one / (one + e[x])
            p[x] = r if row[x] >= 0 else e[x] * r


@numba.njit(**PART)
def _pair_row(n, x, small, probs, alike, weights, linear, product, gradients):
    """Pairs of n pixels with n others; (2, n) of each but ``weights`` (2, n) as floats."""
    one, two = linear.dtype.type(1), linear.dtype.type(1.5)
    half, zero = linear.dtype.type(0.5), linear.dtype.type(0)
    x_i, x_j = x
    e_i, e_j = small
    p_i, p_j = probs
    alike_i, alike_j = alike
    in_i, in_j = weights
    to_i, to_j = gradients
    for t in range(n):
        weight = in_i[t] * alike_i[t] + in_j[t] * alike_j[t]
        u, v = x_i[t], x_j[t]
        e = vector_exp(-abs(u + v))
        r = one / (one + e)
        both = r if u + v >= 0 else e * r
        to_i[t] = weight * (p_i[t] - both)
        to_j[t] = weight * (p_j[t] - both)
        apart = (u < 0) != (v < 0)
        linear[t] += weight * (min(abs(u), abs(v)) if apart else zero)
        factor = (one + e_i[t]) * (one + e_j[t]) * r
        product[t] *= (factor if weight > half else one) * (factor if weight > two else one)


@numba.njit(**PART)
def _add(out, x):
    for t in range(len(x)):
        out[t] += x[t]


@numba.njit(**PART)
def _row_total(linear, product, neighbours):
    """The sum of linear parts and of the logarithms of products, which begin again."""
    total, running, factors = 0.0, 1.0, 0
    one = product.dtype.type(1)
    for t in range(len(linear)):
        total += linear[t]
        running *= product[t]
        factors += neighbours
        if factors > _LIMIT:
            total += math.log(running)
            running, factors = 1.0, 0
        linear[t], product[t] = 0, one
    return total + math.log(running)


@numba.njit(**PART)
def _pairwise(logits, span, alike, offsets, inside, outside, room, gradients):
    """Sum of the pairs around a box; adds the gradients (H, W) by the logits."""
    high, wide = logits.shape
    top, bottom, left, right = span[0], span[1], span[2], span[3]
    small, probs, linear, product, first, second = room
    total, count = 0.0, len(offsets)
    reach_y, reach_x = abs(offsets[0, 0]), abs(offsets[0, 1])
    region = (
        max(top - reach_y, 0),
        min(bottom + reach_y, high),
        max(left - reach_x, 0),
        min(right + reach_x, wide),
    )
    _prepare(logits, region, small, probs)
    gradients[region[0] : region[1]] = 0
    for y in range(top, region[1]):
        for j in range(count // 2):
            dy, dx = offsets[j, 0], offsets[j, 1]
            other = y + dy
            here, there = top <= y < bottom, top <= other < bottom
            if other < 0 or not (here or there):
                continue
            a = max(min(left, left - dx), 0, -dx)
            b = min(max(right, right - dx), wide, wide - dx)
            n = b - a
            if n <= 0:
                continue
            c = a + dx
            _pair_row(
                n,
                (logits[y, a:b], logits[other, c : c + n]),
                (small[y, a:b], small[other, c : c + n]),
                (probs[y, a:b], probs[other, c : c + n]),
                (alike[j, y, a:b], alike[count - 1 - j, other, c : c + n]),
                (
                    inside[a:b] if here else outside[a:b],
                    inside[c : c + n] if there else outside[c : c + n],
                ),
                linear[a:b],
                product[a:b],
                (first[a:b], second[a:b]),
            )
            _add(gradients[y, a:b], first[a:b])
            _add(gradients[other, c : c + n], second[a:b])
        total += _row_total(linear, product, count)
    return total, region


@numba.njit(**PART)
def _gather(gradients, region, w, rows, columns, line, out):
    """The gradients of enlarged cells of a region, added to the cells (h w,) that they mix."""
    for y in range(region[0], region[1]):
        line[:] = 0
        for x in range(region[2], region[3]):
            far = gradients[y, x] * columns.fraction[x]
            line[columns.low[x]] += gradients[y, x] - far
            line[columns.low[x] + 1] += far
        at, f = rows.low[y] * w, rows.fraction[y]
        for c in range(w):
            out[at + c] += (1 - f) * line[c]
        if f > 0:
            for c in range(w):
                out[at + w + c] += f * line[c]


@cached_loop(**ENTRY)
def box_losses(heads, boxes, rows, columns, span, losses, gradients, wanted):
    """Projection and pairwise losses (K, 2) of the instances of ``span``.

    ``gradients`` (K, 2, h w) get those of both by the logits, if ``wanted``.
    """
    h, w = heads.size[0], heads.size[1]
    high, wide, kind = len(rows.low), len(columns.low), heads.params.dtype
    logits, tile, line = np.empty(h * w, kind), make_tile(heads), np.empty(w + 1, kind)
    lines, big = np.empty((2, wide), kind), np.empty((high, wide), kind)
    on_big = np.empty((high, wide), kind)
    down, down_at = np.empty(wide, kind), np.empty(wide, np.int64)
    across, across_at = np.empty(high, kind), np.empty(high, np.int64)
    on_down, on_across = np.empty(wide), np.empty(high)
    inside, outside = np.zeros(wide, kind), np.zeros(wide, kind)
    small, probs = np.empty((high, wide), kind), np.empty((high, wide), kind)
    linear, product = np.zeros(wide, kind), np.ones(wide, kind)
    room = (small, probs, linear, product, np.empty(wide, kind), np.empty(wide, kind))
    for k in range(span[0], span[1]):
        logits_of(heads, k, tile, logits)
        _enlarge(logits, heads.size, rows, columns, lines, big)
        box = boxes.spans[boxes.targets[k]]
        _largest(big, down, down_at, across, across_at)
        empty = box[1] <= box[0] or box[3] <= box[2]  # then it has no shadow on either axis
        losses[k, 0] = _projection(down, box[2], 0 if empty else box[3], on_down)
        losses[k, 0] += _projection(across, box[0], 0 if empty else box[1], on_across)
        for x in range(wide):
            inside[x] = 1 if box[2] <= x < box[3] else 0
        region = (0, 0, 0, 0)
        paired = not empty and len(boxes.offsets) > 0
        if paired:
            alike = boxes.alike[heads.images[k]]
            losses[k, 1], region = _pairwise(
                big, box, alike, boxes.offsets, inside, outside, room, on_big
            )
        if not wanted:
            continue
        for x in range(wide):
            _put(on_down[x], down_at[x], x, w, rows, columns, gradients[k, 0])
        for y in range(high):
            _put(on_across[y], y, across_at[y], w, rows, columns, gradients[k, 0])
        if paired:
            _gather(on_big, region, w, rows, columns, line, gradients[k, 1])


@cached_loop(**ENTRY)
def box_gradients(heads, gradients, factors, span, on_params, on_features):
    """Adds the gradients by the networks (K, N) and the features (B, C, h w) for ``span``.

    ``gradients`` are of `box_losses`, ``factors`` (2,) what each of the two losses counts.
    """
    depth, cells = len(heads.channels) - 1, gradients.shape[2]
    tile = make_tile(heads)
    for k in range(span[0], span[1]):
        image = on_features[heads.images[k]]
        for start in range(0, cells, _TILE):
            n = min(_TILE, cells - start)
            run(heads, k, start, n, tile)
            row = tile.gradients[(depth - 1) % 2, 0]
            for t in range(n):
                row[t] = (
                    factors[0] * gradients[k, 0, start + t]
                    + factors[1] * gradients[k, 1, start + t]
                )
            run_back(heads, k, start, n, tile, on_params[k], image)
