"""A model that is nothing but its tensors, and tensors to put there."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from condinst.modeling.mask_head.layout import HeadLayout

State = dict[str, Tensor]


class Holder(nn.Module):
    """A model that has just these tensors and, if told, the size of its mask head."""

    def __init__(self, state: Mapping[str, Tensor], layout: HeadLayout | None = None) -> None:
        super().__init__()
        self.tensors = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        if layout is not None:
            self.mask_spec = SimpleNamespace(layout=layout)

    def state_dict(self) -> State:
        return dict(self.tensors)


def fill(shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Tensors of which no two numbers are equal."""
    state, start = {}, 0
    for name, shape in shapes.items():
        count = int(torch.tensor(shape).prod()) if shape else 1
        state[name] = torch.arange(start, start + count, dtype=torch.float32).reshape(shape)
        start += count
    return state
