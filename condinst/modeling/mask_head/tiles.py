"""Mask heads in plain tensor operations on pieces that fit into a cache; needs no compiler.

Relative coordinates are linear in the pixel, so all instances of an image share one map of
coordinates and features, and an instance's location goes into the first layer's bias. Upsampling is
a product with a two-tap matrix on each side, taken a block of rows at a time.

Letters: see `condinst.modeling.mask_head.head`; ``G`` instances of one image, ``H, W`` size of the
supervised or final masks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.layers.locations import cell_locations, unit_coordinates
from condinst.modeling.mask_head.fused import FusedMean, Step
from condinst.modeling.mask_head.head import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.reference import full_precision
from condinst.modeling.mask_head.rle import Rle, encode_masks
from condinst.modeling.mask_head.taps import (
    as_tensor,
    band,
    final_matrix,
    matrix,
    upsampling_taps,
)
from condinst.modeling.supervision.dice import Dice

_GROUP = 1 << 20  # numbers in the widest layer of a group of instances
_BLOCK = 1 << 18  # numbers in a block of rows of enlarged maps


class _Axes(NamedTuple):
    """Enlarging (h, w) to (H, W): ``rows`` (H, h), ``columns`` (W, w)."""

    rows: Tensor
    columns: Tensor


class TilesBackend:
    """See `condinst.modeling.mask_head.head.MaskBackend`."""

    name = "tiles"

    def unsupported(self, spec: MaskHeadSpec, device: torch.device) -> str | None:
        """What keeps this backend from computing it; None where nothing does."""
        if not isinstance(spec.dice, Dice):
            return f"it knows no loss {type(spec.dice).__name__}"
        if upsampling_taps(spec.upsampling, 2, 2) is None:
            return f"it knows no upsampling {spec.upsampling!r}"
        return None

    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """Mean dice loss over the instances at the spec's stride."""
        if len(query.params) == 0:
            return features[:0].sum() + query.params.sum()

        def compute(params: Tensor, maps: Tensor, gradients: bool) -> Step:
            made = query._replace(params=params)
            with torch.autocast(maps.device.type, enabled=False):
                return _dice_step(spec, maps, made, masks, targets, gradients)

        return FusedMean.apply(compute, full_precision(query.params), full_precision(features))  # type: ignore[return-value]

    def masks(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Tensor:
        """Probabilities at the inference stride to final masks, a block of rows at a time."""
        features = full_precision(features)
        out = torch.zeros(
            (len(query.params), *output_size), dtype=torch.bool, device=features.device
        )
        stride, factor = spec.inference_stride, spec.feature_stride // spec.inference_stride
        enlarge = _axes(spec, features, factor)
        final = _Axes(
            *(
                as_tensor(final_matrix(int(n) * factor, stride, kept, size), features)
                for n, kept, size in zip(features.shape[-2:], image_size, output_size, strict=True)
            )
        )
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            for image, index in _groups(features, query, factor):
                chosen = MaskQuery(*(x[index] for x in query))
                logits = shared_logits(spec, features[image], chosen)
                probs = (enlarge.rows @ (logits @ enlarge.columns.T)).sigmoid_()
                wide = probs @ final.columns.T  # (G, h', W)
                for top, rows, (low, high) in _blocks(final.rows, wide):
                    out[index, top : top + len(rows)] = rows @ wide[:, low:high] > 0.5
        return out

    def rles(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> list[Rle]:
        """The same as `masks`, encoded some instances at a time."""
        parts = range(0, len(query.params), 8)
        picks = (MaskQuery(*(x[i : i + 8] for x in query)) for i in parts)
        masks = (self.masks(spec, features, x, image_size, output_size) for x in picks)
        return [rle for part in masks for rle in encode_masks(part)]


def shared_logits(spec: MaskHeadSpec, features: Tensor, query: MaskQuery) -> Tensor:
    """Logits (G, h, w) of instances of one image, from its features (C, h, w)."""
    weights, biases = spec.layout.split(full_precision(query.params))
    h, w = features.shape[-2:]
    maps, first, bias = features.flatten(1), weights[0], biases[0]
    if spec.coordinates == "absolute":
        maps = torch.cat((unit_coordinates(h, w, features.device).to(maps), maps))
    elif spec.coordinates == "relative":
        # w (a - x) / s = -(w / s) x + w a / s
        sizes = query.locations.new_tensor(spec.sizes_of_interest)[query.levels].to(maps)
        own = first[:, :, :2] / sizes[:, None, None]  # (G, width, 2)
        bias = bias + (own * query.locations.to(maps)[:, None]).sum(2)
        first = torch.cat((-own, first[:, :, 2:]), dim=2)
        pixels = cell_locations(h, w, spec.feature_stride, features.device)
        maps = torch.cat((pixels.T.to(maps), maps))  # (coords + C, h w)
    x = torch.addmm(bias.flatten()[:, None], first.flatten(0, 1), maps)
    x = x.unflatten(0, bias.shape)  # (G, width, h w)
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        x = torch.baddbmm(bias[:, :, None], weight, x.relu())
    return x[:, 0].unflatten(1, (h, w))


def _dice_step(
    spec: MaskHeadSpec,
    features: Tensor,
    query: MaskQuery,
    masks: Tensor,
    targets: Tensor,
    gradients: bool,
) -> Step:
    factor = spec.feature_stride // spec.out_stride
    axes = _axes(spec, features, factor)
    losses = features.new_zeros(len(query.params))
    on_params, on_features = torch.zeros_like(query.params), torch.zeros_like(features)
    for image, index in _groups(features, query, factor):
        chosen = MaskQuery(*(x[index] for x in query))
        with torch.set_grad_enabled(gradients):
            params = chosen.params.requires_grad_(gradients)
            maps = features[image].detach().requires_grad_(gradients)
            logits = shared_logits(spec, maps, chosen._replace(params=params))
        found, slopes = _dice(spec.dice, logits.detach(), axes, masks, targets[index], gradients)
        losses[index] = found
        if gradients:
            made = torch.autograd.grad(logits, (params, maps), slopes)
            on_params[index] = made[0]
            on_features[image] += made[1]
    return Step(losses, on_params, on_features)


def _dice(
    dice: Dice, logits: Tensor, axes: _Axes, masks: Tensor, targets: Tensor, gradients: bool
) -> tuple[Tensor, Tensor]:
    """Losses (G,) of logits (G, h, w) over their enlarged maps, and their gradients."""
    wide = logits @ axes.columns.T  # (G, h, W)
    product, squares, area = logits.new_zeros(3, len(logits), dtype=torch.float64)
    slopes = wide.new_zeros(2, *wide.shape) if gradients else wide[:0]
    for top, rows, (low, high) in _blocks(axes.rows, wide):
        p = (rows @ wide[:, low:high]).sigmoid_()
        t = masks[targets, top : top + len(rows)].to(p.dtype)
        product += (p * t).sum((1, 2))
        squares += (p * p).sum((1, 2))
        area += t.sum((1, 2))
        if gradients:
            slope = p * (1 - p)
            slopes[0, :, low:high] += rows.T @ (slope * t)
            slopes[1, :, low:high] += rows.T @ slope.mul_(p)
    losses = dice.from_sums(product, squares, area).to(logits.dtype)
    if not gradients:
        return losses, slopes
    # d loss / d sum(p t), and d loss / d sum(p^2) with the 2 of the square
    under = squares + area + dice.denominator
    on_product = (-2 / under).to(logits.dtype)[:, None, None]
    on_squares = (2 * (2 * product + dice.numerator) / under**2).to(logits.dtype)[:, None, None]
    return losses, (on_product * slopes[0] + on_squares * slopes[1]) @ axes.columns


def _axes(spec: MaskHeadSpec, features: Tensor, factor: int) -> _Axes:
    made = []
    for n in features.shape[-2:]:
        taps = upsampling_taps(spec.upsampling, n, factor)
        assert taps is not None, spec.upsampling
        made.append(as_tensor(matrix(taps, n), features))
    return _Axes(*made)


def _groups(features: Tensor, query: MaskQuery, factor: int) -> list[tuple[int, Tensor]]:
    """An image, and some of its instances; few enough for their maps to lie in a cache."""
    rows = max(features.shape[1] + 2, 3 * factor)
    size = max(_GROUP // (features.shape[-2:].numel() * rows), 1)
    found = []
    for image in query.images.unique().tolist():
        mine = (query.images == image).nonzero()[:, 0]
        found.extend((image, index) for index in mine.split(size))
    return found


def _blocks(rows: Tensor, wide: Tensor) -> list[tuple[int, Tensor, tuple[int, int]]]:
    """Pieces of a row matrix (H, h): first row, the piece, and the range of rows it reads."""
    size = max(_BLOCK // (len(wide) * wide.shape[2]), 8)
    made = []
    for top in range(0, len(rows), size):
        piece = rows[top : top + size]
        low, high = band(piece)
        made.append((top, piece[:, low:high], (low, high)))
    return made
