"""What the GPU's losses share: the networks forward, and their gradients.

Letters: see `condinst.modeling.mask_head.backend`; ``N`` numbers of one instance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery

BLOCK = 512  # pixels a program
_BACKWARD_BLOCK = 256
_PROGRAMS = 512  # wanted at least, to fill a GPU
_CORNER_ELEMENTS = 1 << 24  # of one backward group


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
    kernels.logits_kernel[len(params), blocks_of(h * w, BLOCK)](
        features.detach().contiguous(), params, frames, images, out, h, w, *_sizes(spec), BLOCK
    )
    return out


def network_gradients(
    features: Tensor,
    params: Tensor,
    query: MaskQuery,
    spec: MaskHeadSpec,
    corners: Callable[[slice, Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Gradients by features and networks from the gradients of the logits.

    Args:
        features: (B, C, h, w).
        params: (K, N), K at least 1.
        query: the K instances.
        spec: what is computed.
        corners: fills (K', 4, h + 1, w + 1) with the gradients, between cells, of a slice of
            instances.
    """
    h, w = features.shape[-2:]
    of_features = torch.zeros(features.shape, dtype=torch.float32, device=features.device)
    of_params = []
    # In groups: an instance's gradients between cells are four maps.
    size = max(_CORNER_ELEMENTS // (4 * (h + 1) * (w + 1)), 1)
    for start in range(0, len(params), size):
        part = slice(start, min(start + size, len(params)))
        between = of_features.new_empty((part.stop - start, 4, h + 1, w + 1))
        corners(part, between)
        own = MaskQuery(*(x[part] for x in query))
        made = _network_backward(features, own, spec, between)
        of_features += made[0]
        of_params.append(made[1])
    return of_features.to(features.dtype), torch.cat(of_params).to(params.dtype)


def _network_backward(
    features: Tensor, query: MaskQuery, spec: MaskHeadSpec, corners: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the features (B, C, h, w) and the networks (K', N) of a group of instances."""
    from condinst.modeling.mask_head import triton_kernels as kernels

    batch, channels, h, w = features.shape
    params, frames, images = _networks(spec, query, h, w)
    count = len(params)
    order = images.argsort(stable=True)
    bounds = torch.arange(batch + 1, device=images.device)
    starts = torch.searchsorted(images[order], bounds)  # (B + 1,)
    blocks = blocks_of(h * w, _BACKWARD_BLOCK)
    groups = min(blocks_of(_PROGRAMS, blocks * batch), 8)
    of_features = corners.new_empty((groups, batch, channels, h, w))
    of_params = corners.new_empty((blocks, count, params.shape[1]))
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


def shift(spec: MaskHeadSpec, factor: int) -> float:
    """How far the first output cell of an interval lies from its first cell, in output cells."""
    return 0.5 if spec.upsampling == "plain" and factor % 2 == 0 else 0.0


def blocks_of(n: int, size: int) -> int:
    """Programs for n things, ``size`` in each."""
    return -(-n // size)
