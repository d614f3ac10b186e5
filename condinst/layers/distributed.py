"""Sums over workers that losses need."""

from __future__ import annotations

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


def reduce_mean(x: Tensor) -> Tensor:
    """Mean of a tensor over all workers, without gradient; of one worker, the tensor itself."""
    x = x.detach()
    if comm.get_world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / comm.get_world_size()
