"""From tensors to what the compiled loops take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from condinst.layers.locations import cell_locations, unit_coordinates
from condinst.modeling.mask_head import kernel_types
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.taps import Taps, upsampling_taps


def kernel_heads(
    spec: MaskHeadSpec, features: Tensor, query: MaskQuery, turned: bool = False
) -> kernel_types.Heads:
    """The kernels' input; ``turned``: the features lie on their side, (B, C, w, h)."""
    h, w = features.shape[-2:][::-1] if turned else features.shape[-2:]
    count, dtype = len(query.params), features.dtype
    if spec.coordinates == "relative":
        points = cell_locations(h, w, spec.feature_stride).T
        origins = query.locations
        inverses = 1 / torch.tensor(spec.sizes_of_interest, dtype=dtype)[query.levels]
    else:
        points = unit_coordinates(h, w)
        origins, inverses = torch.zeros(count, 2), torch.full((count,), -1.0, dtype=dtype)
    if turned:
        points = points.unflatten(1, (h, w)).transpose(1, 2).flatten(1)
    return kernel_types.Heads(
        query.params.detach().to(dtype).contiguous().numpy(),
        origins.detach().to(dtype).contiguous().numpy(),
        inverses.numpy(),
        query.images.numpy(),
        np.array(spec.layout.channels),
        features.flatten(2).contiguous().numpy(),
        points.to(dtype).contiguous().numpy(),
        np.array(features.shape[-2:]),
    )


def kernel_taps(spec: MaskHeadSpec, n: int, factor: int, dtype: np.dtype, least: int = 1) -> Taps:
    """The upsampling of one axis, its last pixel repeated where there are less than ``least``."""
    taps = upsampling_taps(spec.upsampling, n, factor)
    missing = (0, max(least - len(taps.low), 0))
    low, fraction = (np.pad(x, missing, mode="edge") for x in taps)
    return Taps(low, fraction.astype(dtype))
