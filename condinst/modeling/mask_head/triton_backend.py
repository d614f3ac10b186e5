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

from condinst.modeling.mask_head import triton_boxes
from condinst.modeling.mask_head import triton_networks as networks
from condinst.modeling.mask_head.backend import MaskBackend, no_loss
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth

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
        """Both losses, by `triton_boxes`."""
        if len(query.params) == 0:
            return no_loss(features, query), no_loss(features, query)
        return triton_boxes.box_losses(spec, features, query, truth)

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
        kernels.masks_kernel[count, networks.blocks_of(out[0].numel(), networks.BLOCK)](
            networks.mask_logits(spec, features, query), out, h, w, *image_size, *output_size,
            image_size[0] / output_size[0], image_size[1] / output_size[1],
            factor, networks.shift(spec, factor), spec.inference_stride, networks.BLOCK,
        )  # fmt: skip
        return out.view(torch.bool)


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
        logits = networks.mask_logits(spec, features, query)
        blocks = networks.blocks_of((h + 1) * (w + 1), networks.BLOCK)
        out = logits.new_empty((len(params), blocks, 2))
        kernels.sums_kernel[len(params), blocks](
            logits,
            masks.view(torch.uint8),
            targets,
            out,
            h,
            w,
            factor,
            networks.shift(spec, factor),
            networks.BLOCK,
        )
        ctx.save_for_backward(features, params, logits, masks, targets)
        ctx.query, ctx.spec = query._replace(params=params.detach()), spec
        sums = out.sum(1)
        return sums[:, 0], sums[:, 1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from condinst.modeling.mask_head import triton_kernels as kernels

        features, params, logits, masks, targets = ctx.saved_tensors
        gradients = torch.stack(grads, dim=1).float().contiguous()  # (K, 2)
        (h, w), spec = features.shape[-2:], ctx.spec
        factor = spec.feature_stride // spec.out_stride

        def corners(part: slice, out: Tensor) -> None:
            blocks = networks.blocks_of((h + 1) * (w + 1), networks.BLOCK)
            kernels.sums_backward_kernel[len(out), blocks](
                logits[part], masks.view(torch.uint8), targets[part].contiguous(), gradients[part],
                out, h, w, factor, networks.shift(spec, factor), networks.BLOCK,
            )  # fmt: skip

        made = networks.network_gradients(features, params, ctx.query, spec, corners)
        return (*made, None, None, None, None)
