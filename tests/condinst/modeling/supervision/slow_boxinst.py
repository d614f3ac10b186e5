"""BoxInst's losses once more, pixel by pixel from their definition, for comparison."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

Pixel = tuple[int, int]
Number: TypeAlias = Any  # float, or a scalar tensor
Cells: TypeAlias = dict[Pixel, Number]


class Options(NamedTuple):
    stride: int = 4
    size: int = 3
    dilation: int = 2
    threshold: float = 0.3
    bottom: int = 10
    channels: str = "BGR"


def lab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    linear = [
        ((v / 255 + 0.055) / 1.055) ** 2.4 if v / 255 > 0.04045 else v / 255 / 12.92 for v in rgb
    ]
    r, g, b = linear
    x = (0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047
    y = 0.212671 * r + 0.715160 * g + 0.072169 * b
    z = (0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def colours(image: Tensor, size: Pixel, o: Options) -> dict[Pixel, tuple[float, float, float]]:
    """Lab of every cell."""
    s, found = o.stride, {}
    for y in range(size[0] // s):
        for x in range(size[1] // s):
            block = image[:, y * s : y * s + s, x * s : x * s + s].double()
            mean = [int(v) for v in block.sum((1, 2)) / s**2]  # what is missing counts as 0
            first, second, third = mean if o.channels == "RGB" else mean[::-1]
            found[y, x] = lab((first, second, third))
    return found


def valid_cells(image: Tensor, height: int, o: Options) -> set[Pixel]:
    h, w = image.shape[-2:]
    s, last = o.stride, h - int(o.bottom * h / height)
    rows = [y for y in range(h) if y * s + s // 2 < min(h, last)]
    return {(y, x) for y in rows for x in range(w) if x * s + s // 2 < w}


def box_cells(box: Tensor, size: Pixel, s: int) -> set[Pixel]:
    x0, y0, x1, y1 = box.tolist()
    return {
        (y, x)
        for y in range(size[0] // s)
        for x in range(size[1] // s)
        if int(y0) <= y * s + s // 2 < int(y1 + 1) and int(x0) <= x * s + s // 2 < int(x1 + 1)
    }


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def log(x: Number) -> Number:
    return x.log() if isinstance(x, Tensor) else math.log(x)


def dice(p: list[Number], t: list[float]) -> Number:
    product = sum(a * b for a, b in zip(p, t, strict=True))
    return 1 - 2 * product / (sum(a * a for a in p) + sum(t) + 1e-5)


def losses(
    image: Tensor, height: int, box: Tensor, logits: Tensor, o: Options
) -> tuple[float, float, int]:
    """Projection, sum of pairwise losses, and number of pairs of one instance."""
    values = logits.tolist()
    p = {(y, x): sigmoid(z) for y, row in enumerate(values) for x, z in enumerate(row)}
    q = {(y, x): sigmoid(-z) for y, row in enumerate(values) for x, z in enumerate(row)}
    return losses_of(image, height, box, (p, q), o)


def losses_of(
    image: Tensor, height: int, box: Tensor, cells: tuple[Cells, Cells], o: Options
) -> tuple[Number, Number, int]:
    """The same from every cell's probabilities of inside and of outside.

    They are numbers or scalar tensors, which pass gradients on.
    """
    p, q = cells
    s = o.stride
    rows, columns = (1 + max(cell[axis] for cell in p) for axis in (0, 1))
    size = rows * s, columns * s
    inside, lab_of = box_cells(box, size, s), colours(image, size, o)
    valid = valid_cells(image, height, o)
    projection: Number = 0.0
    projection += dice(
        [max(p[y, x] for y in range(rows)) for x in range(columns)],
        [float(any(cell[1] == x for cell in inside)) for x in range(columns)],
    )
    projection += dice(
        [max(p[y, x] for x in range(columns)) for y in range(rows)],
        [float(any(cell[0] == y for cell in inside)) for y in range(rows)],
    )
    total: Number = 0.0
    pairs, reach = 0, o.size // 2
    for y, x in inside:
        for i in range(-reach, reach + 1):
            for j in range(-reach, reach + 1):
                other = y + i * o.dilation, x + j * o.dilation
                if (i, j) == (0, 0):
                    continue
                likeness = 0.0
                if other in valid:
                    likeness = math.exp(-math.dist(lab_of[y, x], lab_of[other]) / 2)
                if likeness < o.threshold:
                    continue
                pairs += 1
                if other in p:
                    total -= log(p[y, x] * p[other] + q[y, x] * q[other])
    return projection, total, pairs


def make_image(h: int, w: int, seed: int) -> Tensor:
    """(3, h, w) uint8: patches of few colours and some noise."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, 256, (3, -(-h // 21), -(-w // 21)), generator=generator)
    noise = torch.randint(-4, 5, (3, h, w), generator=generator)
    image = patches.repeat_interleave(21, 1).repeat_interleave(21, 2)[:, :h, :w] + noise
    return image.clamp(0, 255).to(torch.uint8)
