"""The mask heads on a GPU, by the kernels of `triton_kernels`.

Kept for the backward pass: the logits at the features' stride. Everything else is computed again.

Letters: ``B`` images, ``C`` mask features, ``h, w`` size of the mask features, ``K`` instances,
``N`` parameters of one.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from condinst.modeling.mask_head.backend import MaskBackend, no_loss
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth

_BLOCK = 512  # pixels a program
_BACKWARD_BLOCK = 256
_PROGRAMS = 512  # wanted at least, to fill a GPU
_CORNER_ELEMENTS = 1 << 24  # of one backward group
_MOST_PARAMS = 700  # of one network; the kernels are unrolled


def is_installed() -> bool:
    """Whether triton can be imported; it comes with PyTorch on Linux."""
    return importlib.util.find_spec("triton") is not None


class TritonBackend(MaskBackend):
    """Dice and masks by `triton_kernels`."""

    name = "triton"
    on_trial = True  # GPUs and compilers of kernels are many

    def unsupported(self, spec: MaskHeadSpec, device: torch.device) -> str | None:
        """See `MaskBackend`."""
        if not is_installed():
            return "triton is not installed"
        if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            return f"it needs a GPU, the model is on {device.type}"
        if spec.layout.num_params > _MOST_PARAMS:
            return f"{spec.layout.num_params} parameters a mask head, {_MOST_PARAMS} at most"
        return super().unsupported(spec, device)

    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """See `MaskBackend`."""
        if len(query.params) == 0:
            return no_loss(features, query)
        factor = spec.feature_stride // spec.out_stride
        expected = tuple(factor * n for n in features.shape[-2:])
        assert masks.shape[-2:] == expected, (masks.shape, expected)
        product, squares = _DiceSums.apply(
            features, query.params, query, masks.contiguous(), targets, spec
        )
        area = masks.flatten(1).sum(1, dtype=torch.float32)[targets]
        return spec.dice.from_sums(product, squares, area).mean()

    def box_losses(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
    ) -> tuple[Tensor, Tensor]:
        """The reference's."""
        return ReferenceBackend().box_losses(spec, features, query, truth)

    def masks(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Tensor:
        """See `MaskBackend`."""
        count, (h, w) = len(query.params), features.shape[-2:]
        out = torch.empty((count, *output_size), dtype=torch.uint8, device=features.device)
        if out.numel() == 0:
            return out.bool()
        from condinst.modeling.mask_head import triton_kernels as kernels

        factor = spec.feature_stride // spec.inference_stride
        kernels.masks_kernel[count, _blocks(out[0].numel(), _BLOCK)](
            mask_logits(spec, features, query), out, h, w, *image_size, *output_size,
            image_size[0] / output_size[0], image_size[1] / output_size[1],
            factor, _shift(spec, factor), spec.inference_stride, _BLOCK,
        )  # fmt: skip
        return out.view(torch.bool)


def mask_logits(spec: MaskHeadSpec, features: Tensor, query: MaskQuery) -> Tensor:
    """Run each instance's network over the mask features of its image.

    Args:
        spec: what is computed.
        features: (B, C, h, w), of any float type up to single precision.
        query: K instances, at least 1.

    Returns:
        (K, h, w) single precision logits at the features' stride, without gradients.
    """
    from condinst.modeling.mask_head import triton_kernels as kernels

    h, w = features.shape[-2:]
    params, frames, images = _networks(spec, query, h, w)
    out = torch.empty((len(params), h, w), dtype=torch.float32, device=features.device)
    kernels.logits_kernel[len(params), _blocks(h * w, _BLOCK)](
        features.detach().contiguous(), params, frames, images, out, h, w, *_sizes(spec), _BLOCK
    )
    return out


class _DiceSums(torch.autograd.Function):
    """Features and networks -> sums of p t and p^2 of every instance, (K,) each."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        params: Tensor,
        query: MaskQuery,
        masks: Tensor,
        targets: Tensor,
        spec: MaskHeadSpec,
    ) -> tuple[Tensor, Tensor]:
        from condinst.modeling.mask_head import triton_kernels as kernels

        h, w = features.shape[-2:]
        factor = spec.feature_stride // spec.out_stride
        logits = mask_logits(spec, features, query)
        blocks = _blocks((h + 1) * (w + 1), _BLOCK)
        out = logits.new_empty((len(params), blocks, 2))
        kernels.sums_kernel[len(params), blocks](
            logits,
            masks.view(torch.uint8),
            targets,
            out,
            h,
            w,
            factor,
            _shift(spec, factor),
            _BLOCK,
        )
        ctx.save_for_backward(features, params, logits, masks, targets)
        ctx.query, ctx.spec = query._replace(params=params.detach()), spec
        sums = out.sum(1)
        return sums[:, 0], sums[:, 1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, params, *kept = ctx.saved_tensors
        slopes = torch.stack(grads, dim=1).float().contiguous()  # (K, 2)
        h, w = features.shape[-2:]
        of_features = torch.zeros(features.shape, dtype=torch.float32, device=features.device)
        of_params = []
        # In groups: an instance's slopes between cells are four maps.
        size = max(_CORNER_ELEMENTS // (4 * (h + 1) * (w + 1)), 1)
        for start in range(0, len(params), size):
            part = slice(start, start + size)
            made = _backward(features, ctx.query, ctx.spec, part, slopes, *kept)
            of_features += made[0]
            of_params.append(made[1])
        return (
            of_features.to(features.dtype),
            torch.cat(of_params).to(params.dtype),
            None,
            None,
            None,
            None,
        )


def _backward(
    features: Tensor,
    query: MaskQuery,
    spec: MaskHeadSpec,
    part: slice,
    slopes: Tensor,
    logits: Tensor,
    masks: Tensor,
    targets: Tensor,
) -> tuple[Tensor, Tensor]:
    """Slopes of the features (B, C, h, w) and of the networks (K', N) of a slice of instances."""
    from condinst.modeling.mask_head import triton_kernels as kernels

    (batch, channels, h, w), factor = features.shape, spec.feature_stride // spec.out_stride
    query = MaskQuery(*(x[part] for x in query))
    params, frames, images = _networks(spec, query, h, w)
    count = len(params)
    corners = logits.new_empty((count, 4, h + 1, w + 1))
    kernels.sums_backward_kernel[count, _blocks((h + 1) * (w + 1), _BLOCK)](
        logits[part], masks.view(torch.uint8), targets[part].contiguous(), slopes[part], corners,
        h, w, factor, _shift(spec, factor), _BLOCK,
    )  # fmt: skip
    order = images.argsort(stable=True)
    bounds = torch.arange(batch + 1, device=images.device)
    starts = torch.searchsorted(images[order], bounds)  # (B + 1,)
    blocks = _blocks(h * w, _BACKWARD_BLOCK)
    groups = min(_blocks(_PROGRAMS, blocks * batch), 8)
    of_features = logits.new_empty((groups, batch, channels, h, w))
    of_params = logits.new_empty((blocks, count, params.shape[1]))
    kernels.network_backward_kernel[blocks, batch, groups](
        features.contiguous(), params, frames, corners, order, starts, of_features, of_params,
        h, w, count, *_sizes(spec), _BACKWARD_BLOCK,
    )  # fmt: skip
    return of_features.sum(0), of_params.sum(0)


def _networks(spec: MaskHeadSpec, query: MaskQuery, h: int, w: int) -> tuple[Tensor, ...]:
    """The kernels' view of K instances: params (K, N), frames (K, 6), images (K,)."""
    params = query.params.detach().float().contiguous()
    columns = params.new_zeros(6, len(params))  # origin, step, inverse of x, then of y
    if spec.coordinates == "relative":
        sizes = params.new_tensor(spec.sizes_of_interest)[query.levels]
        for axis in (0, 1):
            columns[3 * axis] = query.locations[:, axis] - spec.feature_stride // 2
            columns[3 * axis + 1] = spec.feature_stride
            columns[3 * axis + 2] = 1 / sizes
    elif spec.coordinates == "absolute":
        for axis, cells in ((0, w), (1, h)):  # -1 to 1; a single cell is -1
            columns[3 * axis] = -max(cells - 1, 1)
            columns[3 * axis + 1] = -2
            columns[3 * axis + 2] = 1 / max(cells - 1, 1)
    return params, columns.T.contiguous(), query.images.contiguous()


def _sizes(spec: MaskHeadSpec) -> tuple[int, int, int, int, int]:
    layout = spec.layout
    return layout.features, layout.coords, layout.width, layout.depth, layout.num_params


def _shift(spec: MaskHeadSpec, factor: int) -> float:
    """How far the first output cell of an interval lies from its first cell, in output cells."""
    return 0.5 if spec.upsampling == "plain" and factor % 2 == 0 else 0.0


def _blocks(n: int, size: int) -> int:
    return -(-n // size)
