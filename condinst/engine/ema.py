"""The moving average of the weights, which often scores better than the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def is_count(name: str) -> bool:
    """Whether a buffer counts training passes, as a float as in AdelaiDet's checkpoints."""
    return name.endswith("._iter")


class Ema:
    """An exponential moving average of a model's state.

    Parameters and batch statistics are averaged, counts are copied. In the first steps the average
    follows more closely: the decay is the smaller of ``decay`` and (1 + steps) / (10 + steps).

    Args:
        model: its state is the start.
        decay: share of the average that stays at each step, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        assert 0 < decay < 1, decay
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update with the state after a step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not is_count(name):
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Lend the average to the model; its own state comes back afterwards."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.steps = saved["steps"]
        values: dict[str, Tensor] = saved["state"]
        assert values.keys() == self.state.keys(), "the checkpoint's average is from another model"
        for name, value in values.items():
            self.state[name].copy_(value)
