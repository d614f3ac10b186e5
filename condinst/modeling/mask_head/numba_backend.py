"""Mask heads compiled for the CPU at hand by numba, which brings its own compiler.

An instance at a time, whatever the stride: its logits (67 KB at 800 x 1344), dice's sums over the
enlarged map line by line, and at once the gradients. No map of more than one instance is ever kept.

Letters: see `condinst.modeling.mask_head.backend`; ``H, W`` size of supervised or final masks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from condinst.layers.loop_cache import forget_stale
from condinst.layers.threads import in_threads, spans
from condinst.modeling.mask_head import kernel_types, kernels, mask_lines
from condinst.modeling.mask_head.backend import MaskBackend, no_loss
from condinst.modeling.mask_head.fused import FusedBoxes, FusedMean, Step
from condinst.modeling.mask_head.numba_boxes import NumbaBoxes
from condinst.modeling.mask_head.numba_input import kernel_heads, kernel_taps
from condinst.modeling.mask_head.reference import full_precision
from condinst.modeling.mask_head.rle import Rle
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.taps import final_matrix, window
from condinst.modeling.supervision.box import BoxTruth

forget_stale(kernels.probabilities, Path(__file__).parent)
_CHUNK = 4  # instances whose probabilities one thread holds at a time
T = TypeVar("T")


class NumbaBackend(MaskBackend):
    """Dice and masks by `kernels` and `mask_lines`."""

    name = "numba"

    def unsupported(self, spec: MaskHeadSpec, device: torch.device) -> str | None:
        """See `MaskBackend`."""
        if device.type != "cpu":
            return f"it runs on the CPU, not on {device.type}"
        return super().unsupported(spec, device)

    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """Mean dice loss over the instances at the spec's stride."""
        if len(query.params) == 0:
            return no_loss(features, query)
        truth = kernel_types.Truth(masks.contiguous().view(torch.uint8).numpy(), targets.numpy())

        def compute(params: Tensor, maps: Tensor, gradients: bool) -> Step:
            return _dice_step(spec, maps, query._replace(params=params), truth, gradients)

        return FusedMean.apply(compute, full_precision(query.params), full_precision(features))  # type: ignore[return-value]

    def box_losses(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
    ) -> tuple[Tensor, Tensor]:
        """Both losses, an instance at a time."""
        if len(query.params) == 0:
            return no_loss(features, query), no_loss(features, query)
        compute = NumbaBoxes(spec, query, truth)
        given = full_precision(query.params), full_precision(features)
        projection, pairwise = FusedBoxes.apply(compute, *given)  # type: ignore[misc]
        return projection, pairwise

    def masks(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Tensor:
        """Probabilities at the inference stride to final masks, a few instances at a time."""
        out = torch.zeros((len(query.params), *output_size), dtype=torch.bool)
        lines = out.numpy()

        def finish(span: tuple[int, int], probs: np.ndarray, *windows: mask_lines.Window) -> None:
            mask_lines.draw(probs, *windows, lines[slice(*span)])

        for_chunks(spec, features, query, (image_size, output_size), finish)
        return out

    def rles(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> list[Rle]:
        """The same as `masks`, as runs; the masks themselves are never made."""
        # Runs go down the columns: everything is computed on its side.
        turned = features.transpose(2, 3)
        sizes = (image_size[::-1], output_size[::-1])

        def finish(_: Any, probs: np.ndarray, *windows: mask_lines.Window) -> list[np.ndarray]:
            return mask_lines.encode(probs, *windows)

        parts = for_chunks(spec, turned, query, sizes, finish, turned=True)
        size = list(output_size)
        return [{"size": size, "counts": x.tobytes()} for part in parts for x in part]


def _dice_step(
    spec: MaskHeadSpec,
    features: Tensor,
    query: MaskQuery,
    truth: kernel_types.Truth,
    gradients: bool,
) -> Step:
    """Losses and gradients, the instances shared out to the threads."""
    heads = kernel_heads(spec, features, query)
    factor = spec.feature_stride // spec.out_stride
    enlarge = [kernel_taps(spec, int(n), factor, heads.params.dtype) for n in heads.size]
    assert truth.masks.shape[1:] == tuple(len(x.low) for x in enlarge), truth.masks.shape
    constants = np.array([spec.dice.numerator, spec.dice.denominator], np.float64)
    count = len(heads.params)
    losses, on_params = np.zeros(count), np.zeros_like(heads.params)

    def work(span: tuple[int, int]) -> np.ndarray:
        shape = heads.features.shape if gradients else (1, 1, 1)
        own = np.zeros(shape, heads.features.dtype)
        made = (losses, on_params, own, gradients)
        kernels.dice_losses(heads, truth, *enlarge, constants, np.array(span), *made)
        return own

    parts = in_threads(work, spans(count, -(-count // torch.get_num_threads())))
    made = torch.from_numpy(losses).to(features.dtype)
    if not gradients:
        return Step(made, None, None)
    on_features = parts[0]
    for part in parts[1:]:
        on_features += part
    return Step(made, torch.from_numpy(on_params), torch.from_numpy(on_features).view_as(features))


def for_chunks(
    spec: MaskHeadSpec,
    features: Tensor,
    query: MaskQuery,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    finish: Callable[..., T],
    turned: bool = False,
) -> list[T]:
    """``finish(span, probabilities, window down, window across)`` of a few instances at a time."""
    query = query._replace(params=full_precision(query.params.detach()))
    heads = kernel_heads(spec, full_precision(features.detach()), query, turned)
    factor, kind = spec.feature_stride // spec.inference_stride, heads.params.dtype
    axes = [(int(n) * factor, kept, size) for n, kept, size in zip(heads.size, *sizes, strict=True)]
    windows = [
        mask_lines.Window(*window(final_matrix(n, spec.inference_stride, kept, size), kind))
        for n, kept, size in axes
    ]
    rows, columns = (kernel_taps(spec, int(n), factor, kind, least=3) for n in heads.size)

    def work(span: tuple[int, int]) -> T:
        shape = (span[1] - span[0], len(rows.low), len(columns.low))
        probs = np.empty(shape, kind)
        kernels.probabilities(heads, rows, columns, np.array(span), probs)
        return finish(span, probs, *windows)

    return in_threads(work, spans(len(heads.params), _CHUNK))
