"""Channels last, the fastest format for convolutions on a CPU."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(module: nn.Module) -> nn.Module:
    """Make a module's weights channels last, in place, and return the module.

    Only four-dimensional tensors can be; ``module.to(memory_format=...)`` fails at others,
    such as the three-dimensional convolutions of lambda networks.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module
