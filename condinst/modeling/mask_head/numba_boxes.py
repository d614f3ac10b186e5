"""BoxInst's losses by `box_kernels`, the instances shared out to the threads.

Letters: see `condinst.modeling.mask_head.backend`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from condinst.layers.threads import in_threads, spans
from condinst.modeling.mask_head import box_kernels, kernel_types
from condinst.modeling.mask_head.numba_input import kernel_heads, kernel_taps
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth


class NumbaBoxes:
    """See `condinst.modeling.mask_head.fused.BoxCompute`.

    Args:
        spec: what is computed.
        query: K > 0 instances.
        truth: what they are compared with.
    """

    def __init__(self, spec: MaskHeadSpec, query: MaskQuery, truth: BoxTruth) -> None:
        offsets = np.array(truth.offsets, np.int64).reshape(-1, 2)
        assert (offsets == -offsets[::-1]).all(), offsets
        self.spec = spec
        self.query = query
        self.boxes = kernel_types.Boxes(
            truth.spans.numpy(),
            truth.targets.numpy(),
            truth.alike.contiguous().view(torch.uint8).numpy(),
            offsets,
        )

    def losses(
        self, params: Tensor, features: Tensor, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """See `BoxCompute`."""
        heads = kernel_heads(self.spec, features, self.query._replace(params=params))
        factor = self.spec.feature_stride // self.spec.out_stride
        enlarge = [kernel_taps(self.spec, int(n), factor, heads.params.dtype) for n in heads.size]
        assert self.boxes.alike.shape[2:] == tuple(len(x.low) for x in enlarge)
        count, cells = len(params), int(heads.size.prod())
        losses = np.zeros((count, 2))
        gradients = np.zeros((count, 2, cells) if wanted else (1, 2, 1), heads.params.dtype)

        def work(span: tuple[int, int]) -> None:
            box_kernels.box_losses(
                heads, self.boxes, *enlarge, np.array(span), losses, gradients, wanted
            )

        in_threads(work, _shares(count))
        sums = torch.from_numpy(losses.sum(0)).to(features.dtype)
        return sums, torch.from_numpy(gradients) if wanted else None

    def gradients(
        self, params: Tensor, features: Tensor, gradients: Tensor, factors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `BoxCompute`."""
        heads = kernel_heads(self.spec, features, self.query._replace(params=params))
        on_params = np.zeros_like(heads.params)

        def work(span: tuple[int, int]) -> np.ndarray:
            own = np.zeros_like(heads.features)
            weights = factors.to(params.dtype).contiguous().numpy()
            box_kernels.box_gradients(
                heads, gradients.numpy(), weights, np.array(span), on_params, own
            )
            return own

        on_features, *others = in_threads(work, _shares(len(params)))
        for other in others:
            on_features += other
        return torch.from_numpy(on_params), torch.from_numpy(on_features).view_as(features)


def _shares(count: int) -> list[tuple[int, int]]:
    return spans(count, -(-count // torch.get_num_threads()))
