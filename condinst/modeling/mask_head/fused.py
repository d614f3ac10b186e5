"""What the fast mask heads share: one pass gives the loss and its gradients.

The loss is a mean over instances, so its gradient by what made them is known, but for one factor,
as soon as an instance's sums are: nothing is kept for the backward pass but the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Step(NamedTuple):
    """Losses of K instances, and the gradients of their sum; None where they are not asked for."""

    losses: Tensor
    on_params: Tensor | None
    on_features: Tensor | None


Compute = Callable[[Tensor, Tensor, bool], Step]


class BoxCompute(Protocol):
    """BoxInst's two losses in two passes: gradients by the logits, and what follows from them."""

    def losses(
        self, params: Tensor, features: Tensor, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The two losses (2,), summed over K > 0 instances, and their gradients (K, 2, h w)."""
        ...

    def gradients(
        self, params: Tensor, features: Tensor, gradients: Tensor, factors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the losses' sum with these factors (2,)."""
        ...


class FusedBoxes(torch.autograd.Function):
    """(2,) what ``compute`` gives; of the way there only the gradients by the logits are kept."""

    @staticmethod
    def forward(ctx: Any, compute: BoxCompute, params: Tensor, features: Tensor) -> Tensor:
        """Computes the losses and, if they are wanted, their gradients."""
        wanted = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        losses, gradients = compute.losses(params.detach(), features.detach(), wanted)
        if wanted:
            assert gradients is not None
            ctx.compute = compute
            ctx.save_for_backward(params, features, gradients)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        """Runs the networks once more."""
        params, features, gradients = ctx.saved_tensors
        return None, *ctx.compute.gradients(params.detach(), features.detach(), gradients, grad)


class FusedMean(torch.autograd.Function):
    """Mean of what ``compute(params, features, gradients)`` gives for K > 0 instances."""

    @staticmethod
    def forward(ctx: Any, compute: Compute, params: Tensor, features: Tensor) -> Tensor:
        """Computes the loss and, if they are wanted, the gradients."""
        wanted = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        step = compute(params.detach(), features.detach(), wanted)
        if wanted:
            assert step.on_params is not None
            assert step.on_features is not None
            count = len(step.losses)
            ctx.save_for_backward(step.on_params.div_(count), step.on_features.div_(count))
        return step.losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        """Scales the gradients that were found on the way."""
        on_params, on_features = ctx.saved_tensors
        return None, grad * on_params, grad * on_features
