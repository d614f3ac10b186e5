"""GPU kernels of the mask heads; this file and `triton_box_kernels` alone import triton.

The networks are written out per pixel: hidden values stay in registers, an instance's parameters
are loaded once a block of pixels. Coordinates are computed from an instance's ``frame``, not read;
they are not folded into the bias: in one kernel that saves nothing, and far from the instance it
would subtract large numbers.

Between the cells of a map of ``h x w`` lie ``(h + 1) x (w + 1)`` intervals, counted from -1: all
output cells of one interval interpolate between the same four cells. Beyond the border the weight
moves to the cell that exists, so no case is special.

Letters: ``B`` images, ``C`` mask features, ``h, w`` size of the mask features, ``K`` instances,
``N`` parameters of one, ``F`` enlargement, ``P`` pixels a block.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The compiler reads constexpr annotations alone and knows no unpacking.
# ruff: noqa: ANN001, ANN201, ANN202, E741, RUF005


@triton.jit
def _inputs(maps, frames, pixel, w, COORDS: tl.constexpr):
    """Coordinates (origin - step i) * inverse of each axis, then the features."""
    x = ()
    if COORDS == 2:
        column, row = (pixel % w).to(tl.float32), (pixel // w).to(tl.float32)
        x = x + ((tl.load(frames) - tl.load(frames + 1) * column) * tl.load(frames + 2),)
        x = x + ((tl.load(frames + 3) - tl.load(frames + 4) * row) * tl.load(frames + 5),)
    return x + maps


@triton.jit
def _features(features, pixel, inside, cells, C: tl.constexpr):
    """The (P,) rows of one image's features."""
    maps = ()
    for c in tl.static_range(C):
        row = tl.load(features + c * cells + pixel, mask=inside, other=0.0).to(tl.float32)
        maps = maps + (row,)
    return maps


@triton.jit
def _layer(x, weights, biases, I: tl.constexpr, O: tl.constexpr, RELU: tl.constexpr):
    """One 1x1 convolution of I rows to O."""
    out = ()
    for o in tl.static_range(O):
        z = tl.load(weights + o * I) * x[0] + tl.load(biases + o)
        for i in tl.static_range(1, I):
            z += tl.load(weights + o * I + i) * x[i]
        if RELU:
            z = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)
        out = out + (z,)
    return out


@triton.jit
def _network(x, params, I: tl.constexpr, W: tl.constexpr, D: tl.constexpr):
    """Inputs of every layer, then the logits. All weights come before all biases."""
    biases = params + (I * W + (D - 2) * W * W + W if D > 1 else I)
    states = (x,)
    for layer in tl.static_range(D):
        states = states + (
            _layer(
                states[layer],
                params + (0 if layer == 0 else I * W + (layer - 1) * W * W),
                biases + layer * W,
                I if layer == 0 else W,
                1 if layer == D - 1 else W,
                layer < D - 1,
            ),
        )
    return states


@triton.jit
def logits_kernel(
    features, params, frames, images, out, h, w,
    C: tl.constexpr, COORDS: tl.constexpr, W: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Program (k, block): ``out`` (K, h w) single precision."""
    k = tl.program_id(0).to(tl.int64)
    cells = h * w
    pixel = tl.program_id(1) * P + tl.arange(0, P)
    inside = pixel < cells
    maps = _features(features + tl.load(images + k) * C * cells, pixel, inside, cells, C)
    x = _inputs(maps, frames + k * 6, pixel, w, COORDS)
    states = _network(x, params + k * N, C + COORDS, W, D)
    tl.store(out + k * cells + pixel, states[D][0], mask=inside)


@triton.jit
def fraction_of(interval, step, size, F: tl.constexpr, SHIFT: tl.constexpr):
    """Weight of an interval's second cell at its output cell ``step``."""
    inner = (step + SHIFT) / F
    return tl.where(interval < 0, 1.0, tl.where(interval >= size - 1, 0.0, inner))


@triton.jit
def cells_around(logits, row, column, valid, h, w):
    """The four cells around an interval."""
    y0, y1 = tl.maximum(row, 0), tl.minimum(row + 1, h - 1)
    x0, x1 = tl.maximum(column, 0), tl.minimum(column + 1, w - 1)
    return (
        tl.load(logits + y0 * w + x0, mask=valid, other=0.0),
        tl.load(logits + y0 * w + x1, mask=valid, other=0.0),
        tl.load(logits + y1 * w + x0, mask=valid, other=0.0),
        tl.load(logits + y1 * w + x1, mask=valid, other=0.0),
    )


@triton.jit
def sums_kernel(
    logits, masks, targets, out, h, w, F: tl.constexpr, SHIFT: tl.constexpr, P: tl.constexpr
):
    """Program (k, block of intervals): ``out`` (K, blocks, 2), sums of p t and p^2."""
    k, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    interval = block * P + tl.arange(0, P)
    valid = interval < (h + 1) * (w + 1)
    row, column = interval // (w + 1) - 1, interval % (w + 1) - 1
    a, b, c, d = cells_around(logits + k * h * w, row, column, valid, h, w)
    masks += tl.load(targets + k) * (h * w * F * F)
    product, squares = tl.zeros((P,), tl.float32), tl.zeros((P,), tl.float32)
    for dy in range(F):
        fy = fraction_of(row, dy, h, F, SHIFT)
        y = row * F + F // 2 + dy
        left, right = a + (c - a) * fy, b + (d - b) * fy
        for dx in range(F):
            x = column * F + F // 2 + dx
            inside = valid & (y >= 0) & (y < F * h) & (x >= 0) & (x < F * w)
            z = left + (right - left) * fraction_of(column, dx, w, F, SHIFT)
            p = tl.where(inside, 1 / (1 + tl.exp(-z)), 0.0)
            t = tl.load(masks + y * (F * w) + x, mask=inside, other=0).to(tl.float32)
            product += p * t
            squares += p * p
    at = out + (k * tl.num_programs(1) + block) * 2
    tl.store(at, tl.sum(product, 0))
    tl.store(at + 1, tl.sum(squares, 0))


@triton.jit
def store_corners(at, intervals, valid, ga, gb, gc, gd):
    """Store the gradients of an interval's four cells, a map of intervals each."""
    tl.store(at, ga, mask=valid)
    tl.store(at + intervals, gb, mask=valid)
    tl.store(at + 2 * intervals, gc, mask=valid)
    tl.store(at + 3 * intervals, gd, mask=valid)


@triton.jit
def sums_backward_kernel(
    logits, masks, targets, gradients, out, h, w,
    F: tl.constexpr, SHIFT: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Program (k, block of intervals): ``out`` (K, 4, h + 1, w + 1), an interval's gradients of its
    four cells. ``gradients`` (K, 2) are those of the two sums.
    """  # noqa: D205
    k = tl.program_id(0).to(tl.int64)
    interval = tl.program_id(1) * P + tl.arange(0, P)
    intervals = (h + 1) * (w + 1)
    valid = interval < intervals
    row, column = interval // (w + 1) - 1, interval % (w + 1) - 1
    a, b, c, d = cells_around(logits + k * h * w, row, column, valid, h, w)
    masks += tl.load(targets + k) * (h * w * F * F)
    of_product, of_squares = tl.load(gradients + k * 2), tl.load(gradients + k * 2 + 1)
    ga, gb = tl.zeros((P,), tl.float32), tl.zeros((P,), tl.float32)
    gc, gd = tl.zeros((P,), tl.float32), tl.zeros((P,), tl.float32)
    for dy in range(F):
        fy = fraction_of(row, dy, h, F, SHIFT)
        y = row * F + F // 2 + dy
        left, right = a + (c - a) * fy, b + (d - b) * fy
        for dx in range(F):
            x = column * F + F // 2 + dx
            inside = valid & (y >= 0) & (y < F * h) & (x >= 0) & (x < F * w)
            fx = fraction_of(column, dx, w, F, SHIFT)
            p = 1 / (1 + tl.exp(-(left + (right - left) * fx)))
            t = tl.load(masks + y * (F * w) + x, mask=inside, other=0).to(tl.float32)
            gradient = (of_product * t + 2 * of_squares * p) * p * (1 - p)
            gradient = tl.where(inside, gradient, 0.0)
            upper, lower = gradient * (1 - fy), gradient * fy
            ga += upper * (1 - fx)
            gb += upper * fx
            gc += lower * (1 - fx)
            gd += lower * fx
    store_corners(out + k * 4 * intervals + interval, intervals, valid, ga, gb, gc, gd)


@triton.jit
def _gathered(corners, pixel, inside, w, intervals):
    """A cell's gradient: what the four intervals around it hold for it."""
    at = corners + (pixel // w + 1) * (w + 1) + pixel % w + 1
    total = tl.load(at, mask=inside, other=0.0)
    total += tl.load(at + intervals - 1, mask=inside, other=0.0)
    total += tl.load(at + 2 * intervals - (w + 1), mask=inside, other=0.0)
    return total + tl.load(at + 3 * intervals - (w + 1) - 1, mask=inside, other=0.0)


@triton.jit
def _layer_backward(
    gradients,
    x,
    weights,
    out,
    biases_out,
    I: tl.constexpr,
    O: tl.constexpr,
    RELU: tl.constexpr,
):
    """Store the gradients of weights and biases; return those of the I inputs, after their ReLU."""
    for o in tl.static_range(O):
        tl.store(biases_out + o, tl.sum(gradients[o], 0))
        for i in tl.static_range(I):
            tl.store(out + o * I + i, tl.sum(gradients[o] * x[i], 0))
    back = ()
    for i in tl.static_range(I):
        total = gradients[0] * tl.load(weights + i)
        for o in tl.static_range(1, O):
            total += gradients[o] * tl.load(weights + o * I + i)
        if RELU:
            total = tl.where(x[i] > 0, total, 0.0)
        back = back + (total,)
    return back


@triton.jit
def network_backward_kernel(
    features, params, frames, corners, order, starts, of_features, of_params, h, w, count,
    C: tl.constexpr, COORDS: tl.constexpr, W: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    """Program (block, image, group): the image's instances, one group of them after another.

    Hidden values are computed again. ``of_features`` (groups, B, C, h w) and ``of_params`` (blocks,
    K, N) are parts that the caller adds up, always in the same order.
    """
    block, image, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    cells, intervals = h * w, (h + 1) * (w + 1)
    pixel = block * P + tl.arange(0, P)
    inside = pixel < cells
    maps = _features(features + image.to(tl.int64) * C * cells, pixel, inside, cells, C)
    I: tl.constexpr = C + COORDS
    start, end = tl.load(starts + image), tl.load(starts + image + 1)
    size = tl.cdiv(end - start, tl.num_programs(2))
    first = start + group * size
    last = tl.minimum(first + size, end)
    total = ()
    for _ in tl.static_range(C):
        total = total + (tl.zeros((P,), tl.float32),)
    for index in range(first, last):
        k = tl.load(order + index).to(tl.int64)
        own = params + k * N
        states = _network(_inputs(maps, frames + k * 6, pixel, w, COORDS), own, I, W, D)
        gradients = (_gathered(corners + k * 4 * intervals, pixel, inside, w, intervals),)
        out = of_params + (block.to(tl.int64) * count + k) * N
        biases = N - 1 - (D - 1) * W
        # From the last layer to the first. The compiler takes no name for `D - 1 - back` here.
        for back in tl.static_range(D):
            at = 0 if back == D - 1 else I * W + (D - 2 - back) * W * W
            gradients = _layer_backward(
                gradients,
                states[D - 1 - back],
                own + at,
                out + at,
                out + biases + (D - 1 - back) * W,
                I if back == D - 1 else W,
                1 if back == 0 else W,
                back < D - 1,
            )
        added = ()
        for c in tl.static_range(C):
            added = added + (total[c] + gradients[COORDS + c],)
        total = added
    at = (group.to(tl.int64) * tl.num_programs(1) + image) * C * cells
    for c in tl.static_range(C):
        tl.store(of_features + at + c * cells + pixel, total[c], mask=inside)


@triton.jit
def _window(position, scale, limit, last, S: tl.constexpr):
    """A final pixel's three cells of the grid at stride S along one axis: first, three weights.

    Two steps in one: the original size interpolates between two pixels of the resized image
    (clamped to ``limit``), each of these between two cells.
    """
    source = tl.maximum((position.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    low = tl.minimum(source.to(tl.int32), limit)
    high = tl.minimum(low + 1, limit)
    weight = source - low
    low, high = tl.maximum(low - S // 2, 0), tl.maximum(high - S // 2, 0)
    first, moved = low // S, high // S > low // S
    f, g = (low % S) / S, (high % S) / S
    w0 = (1 - weight) * (1 - f) + tl.where(moved, 0.0, weight * (1 - g))
    w1 = (1 - weight) * f + weight * tl.where(moved, 1 - g, g)
    w2 = tl.where(moved, weight * g, 0.0)
    return tl.minimum(first, last), w0, w1, w2


@triton.jit
def cell_of(position, size, F: tl.constexpr, SHIFT: tl.constexpr):
    """Where a cell of the enlarged map lies: first and second cell, weight of the second."""
    moved = position - F // 2
    low = tl.maximum(moved, 0) // F
    fraction = tl.where(moved < 0, 0.0, (moved - low * F + SHIFT) / F)
    return low, tl.minimum(low + 1, size - 1), fraction


@triton.jit
def masks_kernel(
    logits, out, h, w, image_h, image_w, out_h, out_w, scale_y, scale_x,
    F: tl.constexpr, SHIFT: tl.constexpr, S: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Program (k, block): ``out`` (K, out_h, out_w) bytes, 1 where the probability is over half."""
    k = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * P + tl.arange(0, P)
    inside = pixel < out_h * out_w
    row, u0, u1, u2 = _window(pixel // out_w, scale_y, image_h - 1, F * h - 1, S)
    column, v0, v1, v2 = _window(pixel % out_w, scale_x, image_w - 1, F * w - 1, S)
    u, v = (u0, u1, u2), (v0, v1, v2)
    logits += k * h * w
    total = tl.zeros((P,), tl.float32)
    for i in tl.static_range(3):
        y0, y1, fy = cell_of(tl.minimum(row + i, F * h - 1), h, F, SHIFT)
        for j in tl.static_range(3):
            x0, x1, fx = cell_of(tl.minimum(column + j, F * w - 1), w, F, SHIFT)
            a = tl.load(logits + y0 * w + x0, mask=inside, other=0.0)
            b = tl.load(logits + y0 * w + x1, mask=inside, other=0.0)
            c = tl.load(logits + y1 * w + x0, mask=inside, other=0.0)
            d = tl.load(logits + y1 * w + x1, mask=inside, other=0.0)
            left, right = a + (c - a) * fy, b + (d - b) * fy
            z = left + (right - left) * fx
            total += u[i] * v[j] / (1 + tl.exp(-z))
    tl.store(out + k * out_h * out_w + pixel, (total > 0.5).to(tl.uint8), mask=inside)
