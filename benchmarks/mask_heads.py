"""Mask heads, their loss and final masks: the fast ways against the readable one.

A table for each question, at the size of an image of 800 x 1344. "peers" is the order of operations
of both public implementations: one grouped convolution a layer over coordinates and features,
repeated for every instance. Counted is the paper's network alone: 152 multiply-adds a cell and
instance, four times that for both passes of a loss; of final masks, the bytes read and written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._apart import measure
from benchmarks._rows import Row
from condinst.layers.locations import cell_locations
from condinst.layers.threads import in_threads, spans
from condinst.layers.upsampling import aligned_bilinear
from condinst.modeling.mask_head import mask_lines
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.numba_backend import NumbaBackend, for_chunks
from condinst.modeling.mask_head.reference import ReferenceBackend, mask_logits
from condinst.modeling.mask_head.rle import encode_masks
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.taps import final_matrix, window
from condinst.modeling.supervision.dice import Dice

SIZE = (100, 168)
SPEC = MaskHeadSpec(
    layout=HeadLayout(),
    coordinates="relative",
    sizes_of_interest=(64.0, 128.0, 256.0, 512.0, 1024.0),
    feature_stride=8,
    out_stride=4,
    inference_stride=4,
    upsampling="aligned",
    dice=Dice(),
)
Work = Callable[[], object]
NETWORK = 2 * (10 * 8 + 8 * 8 + 8)  # operations a cell


class Size(NamedTuple):
    """Instances of the mask loss, and of masks."""

    repeats: int = 5
    instances: int = 500
    masks: int = 100


SMOKE = Size(repeats=1, instances=4, masks=2)


def inputs(count: int, images: int, size: tuple[int, int] = SIZE) -> tuple[Tensor, MaskQuery]:
    """Seeded features and instances."""
    torch.manual_seed(0)
    query = MaskQuery(
        torch.randn(count, SPEC.layout.num_params) * 0.3,
        torch.arange(count) % images,
        torch.rand(count, 2) * torch.tensor([1344.0, 800.0]),
        torch.arange(count) % 5,
    )
    return torch.randn(images, 8, *size), query


def peers_logits(features: Tensor, query: MaskQuery) -> Tensor:
    """(K, h, w) by grouped convolutions over what is concatenated for every instance."""
    count = len(query.params)
    pixels = cell_locations(*SIZE, SPEC.feature_stride)
    sizes = torch.tensor(SPEC.sizes_of_interest)[query.levels]
    coords = (query.locations[:, None] - pixels).transpose(1, 2) / sizes[:, None, None]
    x = torch.cat((coords.unflatten(2, SIZE), features[query.images]), dim=1).reshape(1, -1, *SIZE)
    weights, biases = SPEC.layout.split(query.params)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = F.conv2d(x, weight.flatten(0, 1)[:, :, None, None], bias.flatten(), groups=count)
        x = x.relu() if layer < 2 else x
    return x[0]


def forward(size: Size) -> Iterator[Row]:
    """Probabilities at the features' stride, and at half of it."""
    count = size.masks

    def peers() -> Work:
        given = inputs(count, 1)
        return lambda: peers_logits(*given).sigmoid()

    def peers_doubled() -> Work:
        given = inputs(count, 1)
        return lambda: aligned_bilinear(peers_logits(*given)[:, None], 2).sigmoid()

    def reference() -> Work:
        given = inputs(count, 1)
        return lambda: mask_logits(SPEC, *given).sigmoid()

    def fast(stride: int) -> Callable[[], Work]:
        def make() -> Work:
            spec = dataclasses.replace(SPEC, inference_stride=stride)
            sizes = ((24, 24), (24, 24))  # not reached: the chunks' probabilities are kept
            given = inputs(count, 1)

            def call(features: Tensor = given[0], query: MaskQuery = given[1]) -> object:
                return for_chunks(spec, features, query, sizes, lambda *x: x[1])

            call(*inputs(1, 1, (3, 3)))  # compiles, or loads what was compiled
            return call

        return make

    table = f"Mask heads forward with sigmoid, {count} instances, map of {SIZE[0]} x {SIZE[1]}"
    ways = {
        "peers": (peers, "", ""),
        "reference": (reference, "peers", ""),
        "numba": (fast(8), "peers", ">= 30 times"),
        "peers, enlarged twice": (peers_doubled, "", ""),
        "numba, enlarged twice": (fast(4), "peers, enlarged twice", ""),
    }
    flops = NETWORK * SIZE[0] * SIZE[1] * count
    with torch.no_grad():
        for what, (way, against, goal) in ways.items():
            found = measure(way, size.repeats)._asdict()
            yield Row(table, what, against=against, goal=goal, flops=flops, **found)


def _loss(backend: MaskBackend, stride: int, count: int) -> Callable[[], Work]:
    def make() -> Work:
        spec = dataclasses.replace(SPEC, out_stride=stride)

        def prepared(number: int, size: tuple[int, int]) -> Work:
            features, query = inputs(number, 2, size)
            features.requires_grad_()
            params = query.params.requires_grad_()
            masks = torch.rand(20, *(n * 8 // stride for n in size)) > 0.9
            targets = torch.arange(number) % 20

            def call() -> object:
                loss = backend.loss(spec, features, query, masks, targets)
                return torch.autograd.grad(loss, (features, params))

            return call

        prepared(2, (3, 3))()  # compiles, or loads what was compiled
        return prepared(count, SIZE)

    return make


def _peers_loss(count: int) -> Callable[[], Work]:
    def make() -> Work:
        features, query = inputs(count, 2)
        features.requires_grad_()
        params = query.params.requires_grad_()
        masks = torch.rand(20, 200, 336) > 0.9
        targets = torch.arange(count) % 20

        def call() -> object:
            logits = aligned_bilinear(peers_logits(features, query)[:, None], 2)[:, 0]
            loss = SPEC.dice(logits.sigmoid(), masks[targets]).mean()
            return torch.autograd.grad(loss, (features, params))

        return call

    return make


def losses(size: Size) -> Iterator[Row]:
    """Forward and backward of the mask loss at strides 4 and 1."""
    count, repeats = size.instances, min(size.repeats, 3)
    table = f"Mask loss forward + backward, {count} instances; against the peers at stride 4"
    ways = {
        "stride 4: peers": (_peers_loss(count), ""),
        "stride 4: reference": (_loss(ReferenceBackend(), 4, count), ""),
        "stride 4: numba": (_loss(NumbaBackend(), 4, count), ">= 8 times, <= 0.1 of peak"),
        "stride 1: numba": (_loss(NumbaBackend(), 1, count), ">= 1 times, <= 300 MB"),
    }
    peers, flops = next(iter(ways)), 4 * NETWORK * SIZE[0] * SIZE[1] * count
    for what, (way, goal) in ways.items():
        against = "" if what == peers else peers
        found = measure(way, repeats)._asdict()
        yield Row(table, what, against=against, goal=goal, flops=flops, **found)


def objects(count: int, noise: bool) -> Tensor:
    """Probabilities (K, 200, 304) at stride 4: ellipses of all sizes, or noise all over."""
    generator = torch.Generator().manual_seed(0)
    if noise:
        return torch.rand(count, 200, 304, generator=generator)
    y, x = torch.arange(200.0)[:, None], torch.arange(304.0)
    draw = torch.rand(4, count, 1, 1, generator=generator)
    reach = 4 + draw[2] ** 2 * 70, 4 + draw[3] ** 2 * 70
    inside = ((x - draw[0] * 304) / reach[0]) ** 2 + ((y - draw[1] * 200) / reach[1]) ** 2
    return (4 * (1 - inside)).sigmoid()


def plain_masks(probs: Tensor) -> Tensor:
    """Final masks by two full-size steps."""
    full = aligned_bilinear(probs[:, None], 4)[:, :, :800, :1216]
    return F.interpolate(full, size=(480, 730), mode="bilinear", align_corners=False)[:, 0] > 0.5


def final(size: Size, noise: bool) -> Iterator[Row]:
    """From probabilities at stride 4 to masks of the original image."""
    count = size.masks
    down, across = (
        mask_lines.Window(*window(final_matrix(n, 4, 4 * n, pixels), np.dtype(np.float32)))
        for n, pixels in ((200, 480), (304, 730))
    )

    def plain(runs: bool) -> Callable[[], Work]:
        def make() -> Work:
            probs = objects(count, noise)
            return lambda: encode_masks(plain_masks(probs)) if runs else plain_masks(probs)

        return make

    def drawn() -> Work:
        probs = objects(count, noise).numpy()

        def call(count: int = count) -> object:
            out = np.zeros((count, 480, 730), np.bool_)

            def work(span: tuple[int, int]) -> None:
                part = slice(*span)
                mask_lines.draw(probs[part], down, across, out[part])

            return in_threads(work, spans(count, 4)), out

        call(1)
        return call

    def encoded() -> Work:
        probs = objects(count, noise).transpose(1, 2).contiguous().numpy()

        def call(count: int = count) -> object:
            def work(span: tuple[int, int]) -> object:
                return mask_lines.encode(probs[slice(*span)], across, down)

            return in_threads(work, spans(count, 4))

        call(1)
        return call

    name = "noise all over" if noise else "ellipses"
    table = f"Probabilities to masks, {count} instances ({name}), 800 x 1216 to 480 x 730"
    read, written = 4 * count * 200 * 304, count * 480 * 730
    ways = {
        "reference": (plain(False), "", "", read + written),
        "numba": (drawn, "reference", ">= 5 times, <= 0.2 of peak", read + written),
        "reference to runs": (plain(True), "", "", read),
        "numba to runs": (encoded, "numba", ">= 1", read),
    }
    for what, (way, against, goal, moved) in ways.items():
        found = measure(way, size.repeats)._asdict()
        yield Row(table, what, against=against, goal="" if noise else goal, moved=moved, **found)


def rows(size: Size) -> Iterator[Row]:
    """All tables."""
    yield from forward(size)
    yield from losses(size)
    for noise in (False, True):
        yield from final(size, noise)
