"""GPU kernels of BoxInst's losses, between the networks of `triton_kernels`.

No map of the enlarged logits is ever kept: a cell's logit is computed from its four corners
wherever it is needed, as a pixel of its own and as a neighbour. Nothing is added atomically: the
gradient of a cell gathers all pairs that it is part of, as their first pixel and as their second,
so a run repeats to the last bit.

With u and v the logits of two pixels and L(t) = log(1 + e^-t),

    -log(p_i p_j + (1 - p_i)(1 - p_j)) = [signs differ] min(|u|, |v|) + L(|u|) + L(|v|) - L(|u + v|)

and its gradient by u is sigmoid(u) - sigmoid(u + v). Beyond the map a pair's loss is 0 for any u.

Letters: as in `triton_kernels`; ``H, W`` the enlarged map, ``J`` neighbours of a cell, of which
J - 1 - j lies opposite to j.
"""

from __future__ import annotations

import triton
import triton.language as tl

from condinst.modeling.mask_head.triton_kernels import (
    cell_of,
    cells_around,
    fraction_of,
    store_corners,
)

# The compiler reads constexpr annotations alone and knows no unpacking.
# ruff: noqa: ANN001, ANN201, ANN202


@triton.jit
def _logits_at(logits, y, x, inside, h, w, F: tl.constexpr, SHIFT: tl.constexpr):
    """Logits of cells of the enlarged map."""
    y0, y1, fy = cell_of(y, h, F, SHIFT)
    x0, x1, fx = cell_of(x, w, F, SHIFT)
    a = tl.load(logits + y0 * w + x0, mask=inside, other=0.0)
    b = tl.load(logits + y0 * w + x1, mask=inside, other=0.0)
    c = tl.load(logits + y1 * w + x0, mask=inside, other=0.0)
    d = tl.load(logits + y1 * w + x1, mask=inside, other=0.0)
    left, right = a + (c - a) * fy, b + (d - b) * fy
    return left + (right - left) * fx


@triton.jit
def _sigmoid(z):
    e = tl.exp(-tl.abs(z))
    return tl.where(z < 0, e, 1.0) / (1 + e)


@triton.jit
def shadows_kernel(
    logits, best, at, cells, lines, line_step, steps, step,
    F: tl.constexpr, SHIFT: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Program (k, block of lines): the largest logit of each line, and the first place it lies at.

    A line of cells is one of ``lines``, ``line_step`` apart; it has ``steps`` cells, ``step``
    apart. ``best`` and ``at`` (K, F lines); a logit that is no number is the largest.
    """
    k = tl.program_id(0).to(tl.int64)
    line = tl.program_id(1) * P + tl.arange(0, P)
    inside = line < F * lines
    l0, l1, fl = cell_of(line, lines, F, SHIFT)
    logits += k * cells
    largest = tl.full((P,), float("-inf"), tl.float32)
    place = tl.zeros((P,), tl.int32)
    for s in range(F * steps):
        s0, s1, fs = cell_of(s, steps, F, SHIFT)
        a = tl.load(logits + l0 * line_step + s0 * step, mask=inside, other=0.0)
        b = tl.load(logits + l0 * line_step + s1 * step, mask=inside, other=0.0)
        c = tl.load(logits + l1 * line_step + s0 * step, mask=inside, other=0.0)
        d = tl.load(logits + l1 * line_step + s1 * step, mask=inside, other=0.0)
        near, far = a + (b - a) * fs, c + (d - c) * fs
        z = near + (far - near) * fl
        more = (z > largest) | (z != z)
        largest = tl.where(more, z, largest)
        place = tl.where(more, s, place)
    tl.store(best + k * F * lines + line, largest, mask=inside)
    tl.store(at + k * F * lines + line, place, mask=inside)


@triton.jit
def _pair_losses(u, v):
    apart = tl.where((u < 0) != (v < 0), tl.minimum(tl.abs(u), tl.abs(v)), 0.0)
    both = tl.log(1 + tl.exp(-tl.abs(u))) + tl.log(1 + tl.exp(-tl.abs(v)))
    return apart + both - tl.log(1 + tl.exp(-tl.abs(u + v)))


@triton.jit
def pairs_kernel(
    logits, spans, images, alike, offsets, out, h, w, neighbours,
    F: tl.constexpr, SHIFT: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Program (k, block of the box's cells): ``out`` (K, blocks), sums of the pairs' losses."""
    k, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    top, bottom = tl.load(spans + 4 * k).to(tl.int32), tl.load(spans + 4 * k + 1).to(tl.int32)
    left, right = tl.load(spans + 4 * k + 2).to(tl.int32), tl.load(spans + 4 * k + 3).to(tl.int32)
    wide = tl.maximum(right - left, 0)
    cells = tl.maximum(bottom - top, 0) * wide
    total = tl.zeros((P,), tl.float32)
    if block * P < cells:
        cell = block * P + tl.arange(0, P)
        valid = cell < cells
        y, x = top + cell // wide, left + cell % wide
        logits += k * h * w
        alike += tl.load(images + k) * neighbours * (F * h * F * w)
        u = _logits_at(logits, y, x, valid, h, w, F, SHIFT)
        for j in range(neighbours):
            other_y, other_x = y + tl.load(offsets + 2 * j), x + tl.load(offsets + 2 * j + 1)
            there = valid & (other_y >= 0) & (other_y < F * h)
            there = there & (other_x >= 0) & (other_x < F * w)
            v = _logits_at(logits, other_y, other_x, there, h, w, F, SHIFT)
            place = alike + (j * F * h + y) * (F * w) + x
            weight = tl.load(place, mask=there, other=0).to(tl.float32)
            total += tl.where(weight > 0, _pair_losses(u, v), 0.0)
    tl.store(out + k * tl.num_programs(1) + block, tl.sum(total, 0))


@triton.jit
def _gradients_of_pairs(
    logits, u, y, x, inside, span, alike, offsets, h, w, neighbours,
    F: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Gradients of cells by all pairs that they are part of."""
    top, bottom, left, right = span[0], span[1], span[2], span[3]
    high, wide = F * h, F * w
    p, total = _sigmoid(u), u * 0
    boxed = inside & (y >= top) & (y < bottom) & (x >= left) & (x < right)
    for j in range(neighbours):
        other_y, other_x = y + tl.load(offsets + 2 * j), x + tl.load(offsets + 2 * j + 1)
        there = inside & (other_y >= 0) & (other_y < high) & (other_x >= 0) & (other_x < wide)
        other = there & (other_y >= top) & (other_y < bottom)
        other = other & (other_x >= left) & (other_x < right)
        own = alike + (j * high + y) * wide + x
        back = alike + ((neighbours - 1 - j) * high + other_y) * wide + other_x
        weight = tl.load(own, mask=there & boxed, other=0).to(tl.float32)
        weight += tl.load(back, mask=other, other=0).to(tl.float32)
        v = _logits_at(logits, other_y, other_x, there, h, w, F, SHIFT)
        total += tl.where(weight > 0, weight * (p - _sigmoid(u + v)), 0.0)
    return total


@triton.jit
def boxes_backward_kernel(
    logits, spans, images, alike, offsets, down_at, across_at, on_down, on_across, on_pairs, out,
    h, w, neighbours, reach, F: tl.constexpr, SHIFT: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Program (k, block of intervals): ``out`` (K, 4, h + 1, w + 1), an interval's gradients of its
    four cells. ``on_down`` (K, W), ``on_across`` (K, H) and ``on_pairs`` (K,) are those of the
    largest logits and of the sums of pairs; no pair reaches further than ``reach``.
    """  # noqa: D205
    k = tl.program_id(0).to(tl.int64)
    interval = tl.program_id(1) * P + tl.arange(0, P)
    intervals = (h + 1) * (w + 1)
    valid = interval < intervals
    row, column = interval // (w + 1) - 1, interval % (w + 1) - 1
    logits += k * h * w
    a, b, c, d = cells_around(logits, row, column, valid, h, w)
    top, bottom = tl.load(spans + 4 * k).to(tl.int32), tl.load(spans + 4 * k + 1).to(tl.int32)
    left, right = tl.load(spans + 4 * k + 2).to(tl.int32), tl.load(spans + 4 * k + 3).to(tl.int32)
    alike += tl.load(images + k) * neighbours * (F * h * F * w)
    of_pairs = tl.load(on_pairs + k)
    # Far from the box there are no pairs.
    y, x = row * F + F // 2, column * F + F // 2
    near = valid & (y + F > top - reach) & (y < bottom + reach)
    near = near & (x + F > left - reach) & (x < right + reach)
    paired = tl.max(near.to(tl.int32), 0) > 0
    ga, gb = tl.zeros((P,), tl.float32), tl.zeros((P,), tl.float32)
    gc, gd = tl.zeros((P,), tl.float32), tl.zeros((P,), tl.float32)
    for dy in range(F):
        fy = fraction_of(row, dy, h, F, SHIFT)
        y = row * F + F // 2 + dy
        first, second = a + (c - a) * fy, b + (d - b) * fy
        in_rows = valid & (y >= 0) & (y < F * h)
        across = tl.load(on_across + k * F * h + y, mask=in_rows, other=0.0)
        place = tl.load(across_at + k * F * h + y, mask=in_rows, other=-1)
        for dx in range(F):
            x = column * F + F // 2 + dx
            inside = in_rows & (x >= 0) & (x < F * w)
            fx = fraction_of(column, dx, w, F, SHIFT)
            u = first + (second - first) * fx
            down = tl.load(on_down + k * F * w + x, mask=inside, other=0.0)
            gradient = tl.where(
                tl.load(down_at + k * F * w + x, mask=inside, other=-1) == y, down, 0.0
            )
            gradient += tl.where(place == x, across, 0.0)
            if paired:
                span = (top, bottom, left, right)
                gradient += of_pairs * _gradients_of_pairs(
                    logits, u, y, x, inside, span, alike, offsets, h, w, neighbours, F, SHIFT
                )
            gradient = tl.where(inside, gradient, 0.0)
            upper, lower = gradient * (1 - fy), gradient * fy
            ga += upper * (1 - fx)
            gb += upper * fx
            gc += lower * (1 - fx)
            gd += lower * fx
    store_corners(out + k * 4 * intervals + interval, intervals, valid, ga, gb, gc, gd)
