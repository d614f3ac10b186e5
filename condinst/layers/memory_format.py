"""Channels last, which convolutions on a CPU are fastest with."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(module: nn.Module) -> nn.Module:
    """Lay a module's weights channels last, in place, and give the module.

    Only tensors of four dimensions can lie so; ``module.to(memory_format=...)`` stops at others,
    such as the three-dimensional convolutions of lambda networks.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module
