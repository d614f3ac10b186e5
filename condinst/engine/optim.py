"""Optimiser, gradient clipping and mixed precision, as ``SOLVER`` says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params
from torch import nn

from condinst.errors import UserError

Clipper = Callable[[Iterable[nn.Parameter]], torch.Tensor | None]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with detectron2's rules for biases and norms, or AdamW by ``SOLVER.OPTIMIZER``."""
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    if not params:
        raise UserError("the model has no parameter to train; check MODEL.BACKBONE.FREEZE_AT")
    name = solver.get("OPTIMIZER", "SGD")
    if name == "SGD":
        # torch's fused SGD leaves its momentum uninitialised if the scaler skips step one.
        fused = Precision.from_config(cfg).scaler is None
        return torch.optim.SGD(
            params,
            lr=solver.BASE_LR,
            momentum=solver.MOMENTUM,
            nesterov=solver.NESTEROV,
            weight_decay=solver.WEIGHT_DECAY,
            fused=fused,
        )
    if name == "AdamW":
        return torch.optim.AdamW(
            params, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, fused=True
        )
    raise UserError(f"SOLVER.OPTIMIZER = {name!r} is unknown; allowed: SGD, AdamW")


def build_clipper(cfg: CfgNode) -> Clipper | None:
    """The clipper set by ``SOLVER.CLIP_GRADIENTS``, or None when it is off.

    ``full_model`` limits the norm of all gradients together and returns that norm before clipping;
    ``norm`` (each parameter's norm) and ``value`` (each element) return None.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return None
    limit, norm_type = clip.CLIP_VALUE, clip.NORM_TYPE

    def full_model(params: Iterable[nn.Parameter]) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(params, limit, norm_type, foreach=True)

    def norm(params: Iterable[nn.Parameter]) -> None:
        for param in params:
            nn.utils.clip_grad_norm_(param, limit, norm_type)

    def value(params: Iterable[nn.Parameter]) -> None:
        nn.utils.clip_grad_value_(params, limit)

    clippers: dict[str, Clipper] = {"full_model": full_model, "norm": norm, "value": value}
    if clip.CLIP_TYPE not in clippers:
        raise UserError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE = {clip.CLIP_TYPE!r} is unknown; allowed: "
            f"{', '.join(clippers)}"
        )
    return clippers[clip.CLIP_TYPE]


class Precision:
    """Autocast and loss scaling of a training step.

    Args:
        device: "cpu" or "cuda".
        dtype: None for float32; bfloat16 works on both devices; float16 only on CUDA, with a
            scaler.
    """

    def __init__(self, device: str, dtype: torch.dtype | None) -> None:
        self.device = device
        self.dtype = dtype
        self.scaler = (
            torch.amp.GradScaler(device) if dtype is torch.float16 and device == "cuda" else None
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Precision:
        """Read ``SOLVER.AMP``; its ``DTYPE`` "auto" means float16 on CUDA and bfloat16 on CPU.

        Raises:
            UserError: an unknown type, or float16 on a CPU.
        """
        device = torch.device(cfg.MODEL.DEVICE).type
        if not cfg.SOLVER.AMP.ENABLED:
            return cls(device, None)
        name = cfg.SOLVER.AMP.get("DTYPE", "auto")
        if name == "auto":
            name = "float16" if device == "cuda" else "bfloat16"
        if name not in ("float16", "bfloat16"):
            raise UserError(
                f"SOLVER.AMP.DTYPE = {name!r} is unknown; allowed: auto, float16, bfloat16"
            )
        if name == "float16" and device != "cuda":
            raise UserError(
                f"SOLVER.AMP.DTYPE = float16 needs a CUDA device and MODEL.DEVICE is {device}; "
                "use bfloat16 (train.amp: bf16) or no mixed precision (train.amp: none)"
            )
        return cls(device, getattr(torch, name))

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context for the forward pass."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device, self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Back-propagate the loss, scaled if need be."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Unscale the gradients; call it before clipping."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update the weights; False if a scaler met non-finite gradients and skipped it."""
        if self.scaler is None:
            optimizer.step()
            return True
        scale = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= scale  # lowered exactly when the step is skipped

    def state_dict(self) -> dict:
        """The scaler's state, empty without one."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)
