"""Batch norms whose statistics cover all workers, converted in place from plain ones.

Letters: ``B`` images, ``C`` channels, ``h, w`` size of a map.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn


class SynchronisedNorm(nn.BatchNorm2d):
    """A batch norm over the images of all workers, each of which has the same number.

    Works with gloo as well as NCCL. Variances are biased, also in the running statistics, as in
    detectron2's NaiveSyncBatchNorm, which does not support momentum None or missing weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape and type."""
        if comm.get_world_size() == 1 or not self.training:
            return super().forward(x)
        maps = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        own = torch.cat([maps.mean((0, 2, 3)), (maps * maps).mean((0, 2, 3))])
        shared = differentiable_all_reduce(own) * (1.0 / comm.get_world_size())
        mean, mean_square = shared.split(self.num_features)
        variance = (mean_square - mean * mean).clamp(min=0)  # rounding may make it negative
        self._move(mean.detach(), variance.detach())
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else self.weight * scale
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (maps * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if share is None:  # the plain mean over all steps
                share = 1.0 / float(self.num_batches_tracked)
        assert share is not None, "momentum None needs num_batches_tracked"
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (variance - self.running_var)


class SynchronisedNormAct(SynchronisedNorm):
    """timm's batch norm followed by dropout and activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape and type."""
        return self.act(self.drop(super().forward(x)))


def synchronise(module: nn.BatchNorm2d) -> bool:
    """Turn a plain batch norm into a synchronised one, in place; False if it is more than plain.

    Nothing is rebuilt, so device, type, frozen parameters, momentum, hooks and everything else
    about the module stay as they are.
    """
    if type(module).forward is nn.BatchNorm2d.forward:
        kind: Any = SynchronisedNorm
    elif all(isinstance(getattr(module, name, None), nn.Module) for name in ("drop", "act")):
        kind = SynchronisedNormAct
    else:
        return False
    module.__class__ = kind
    return True
