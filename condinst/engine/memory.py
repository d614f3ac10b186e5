"""Optional changes to a built model for training: batch norms over workers, less memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.layers import NaiveSyncBatchNorm
from torch import nn
from torch.utils.checkpoint import checkpoint

from condinst.errors import UserError
from condinst.layers.synchronised_norm import synchronise


def synchronise_batch_norms(model: nn.Module) -> int:
    """Make plain batch norms compute their statistics over all workers; returns how many.

    Raises:
        UserError: a batch norm does more than a plain one and cannot be converted.
    """
    count = 0
    for path, module in model.named_modules():
        if not isinstance(module, nn.BatchNorm2d) or isinstance(module, NaiveSyncBatchNorm):
            continue
        if not synchronise(module):
            raise UserError(
                f"train.sync_bn (SOLVER.SYNC_BN): {path} is a {type(module).__name__}, which is "
                "more than a batch norm; set the backbone's own norm to SyncBN instead "
                "(MODEL.TIMM.NORM)"
            )
        count += 1
    return count


def recompute_backbone(model: nn.Module) -> int:
    """Keep no activations inside the backbone's stages; the backward pass recomputes them.

    Batch norms still update their statistics only once. Gradients are bitwise the same where
    operations are deterministic.

    Returns:
        How many stages were changed.

    Raises:
        UserError: the backbone has no known stages.
    """
    bottom_up: Any = getattr(model.backbone, "bottom_up", model.backbone)
    names = getattr(bottom_up, "stage_names", ())  # of detectron2's ResNet and of TimmBackbone
    if not names:
        raise UserError(
            f"train.activation_checkpoints (SOLVER.RECOMPUTE_BACKBONE): {type(bottom_up).__name__} "
            "has no stages that could be recomputed; set it to false"
        )
    for stage in map(bottom_up.get_submodule, names):
        if any(param.requires_grad for param in stage.parameters()):
            stage.forward = _recomputed(stage, stage.forward)
    return len(names)


def _recomputed(stage: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), _statistics_at_rest(norms)

    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not stage.training:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return run


@contextlib.contextmanager
def _statistics_at_rest(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Make the second pass normalise like the first, without updating statistics."""
    saved = [
        (norm, norm.momentum, norm.num_batches_tracked, norm.num_batches_tracked.clone())
        for norm in norms
        if norm.num_batches_tracked is not None
    ]
    for norm, *_ in saved:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count, before in saved:
            norm.momentum = momentum
            count.copy_(before)
