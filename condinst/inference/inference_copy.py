"""An inference-only copy of a model: the same function, arranged for speed.

Frozen batch norms are folded into their convolutions (in double precision, so results differ only
by rounding), maps are channels last, weights are packed for oneDNN with the following ReLU
or addition fused in where this torch and CPU can, and the controller computes its parameters
only at detections.

Letters: ``B`` images, ``C`` channels, ``h, w`` size of a map.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeGuard

import torch
from detectron2.layers import Conv2d as DetectronConv
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from condinst.errors import UserError
from condinst.inference.packed import PackedConv, answer_for, refusal
from condinst.inference.winograd import WinogradConv, suits
from condinst.layers.conv import CellConv
from condinst.layers.memory_format import to_channels_last
from condinst.layers.synchronised_norm import SynchronisedNorm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Exactly these types: timm's subclasses of batch norm include an activation.
_FOLDABLE = (FrozenBatchNorm2d, nn.BatchNorm2d, NaiveSyncBatchNorm, SynchronisedNorm)
_LOGGER = logging.getLogger(__name__)
_MakeConv = Callable[[nn.Conv2d, bool], nn.Module]  # a convolution, and whether a ReLU follows


def inference_copy(model: nn.Module, precision: str = "fp32", winograd: bool = False) -> nn.Module:
    """The same model for inference only; the original is not changed.

    Args:
        model: a detector with ``backbone``, such as `CondInst`; any device.
        precision: of the convolutions: fp32, bf16, or, on a GPU, fp16. Boxes, scores and masks are
            always computed in fp32 from their outputs.
        winograd: use `WinogradConv` for wide 3 x 3 convolutions that would otherwise be packed;
            its rounding errors are three times as large.

    Raises:
        UserError: the precision is unknown or the device does not support it.
    """
    device = next(model.parameters()).device.type
    if precision not in DTYPES or (precision == "fp16" and device == "cpu"):
        allowed = "fp32 or bf16" if device == "cpu" else "fp32, bf16 or fp16"
        raise UserError(f"precision {precision!r}: on {device} use {allowed}")
    dtype = DTYPES[precision]
    made: Any = copy.deepcopy(model).eval().requires_grad_(False)
    packed = device == "cpu" and _can_pack(precision)
    make = _winograd_or_packed if winograd else PackedConv
    for name in ("backbone", "fcos_head", "mask_branch", "controller"):
        part = getattr(made, name, None)
        if part is None:
            continue
        _fold(part)
        to_channels_last(part.to(dtype=dtype))
        if name == "controller":
            made.controller = CellConv(part)
        elif packed:
            _pack(part, make)
    made.backbone.register_forward_pre_hook(partial(_arrange, dtype))
    _LOGGER.info("inference in %s, norms folded%s", precision, ", packed" if packed else "")
    return made


def _can_pack(precision: str) -> bool:
    reason = refusal(DTYPES[precision])
    if reason is not None:
        _say_once(precision, reason)
    return reason is None


@cache
def _say_once(precision: str, reason: str) -> None:
    instead = "; fp32 may be faster" if precision == "bf16" else ""
    _LOGGER.warning(
        "inference in %s with ordinary convolutions, not packed ones (%s)%s",
        *(precision, reason, instead),
    )


def _winograd_or_packed(conv: nn.Conv2d, relu: bool = False) -> nn.Module:
    if not suits(conv):
        return PackedConv(conv, relu)
    made = WinogradConv(conv, relu)
    answer_for(made, conv)
    return made


def _arrange(dtype: torch.dtype, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.to(dtype, memory_format=torch.channels_last) for x in inputs)


# Folding


def _fold(root: nn.Module) -> None:
    """Fold norms with fixed statistics into the convolutions that they directly follow."""
    for module in list(root.modules()):
        if isinstance(module, DetectronConv) and type(module.norm) in _FOLDABLE:
            _fold_into(module, module.norm)
            module.norm = None
        if _runs_in_order(module):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                plain = isinstance(conv, nn.Conv2d) and not isinstance(conv, DetectronConv)
                if plain and type(norm) in _FOLDABLE and norm.running_mean is not None:
                    _fold_into(conv, norm)
                    module[i + 1] = nn.Identity()


def _runs_in_order(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether a module is a plain sequence; some of timm's subclasses do more."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _fold_into(conv: nn.Conv2d, norm: Any) -> None:
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = (0 if conv.bias is None else conv.bias.double()) - mean
    bias = bias * scale + (0 if norm.bias is None else norm.bias.double())
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


# Packing


class FusedBottleneck(nn.Module):
    """detectron2's bottleneck block of three packed convolutions."""

    def __init__(self, block: Any, make: _MakeConv) -> None:
        super().__init__()
        self.conv1, self.conv2 = make(block.conv1, True), make(block.conv2, True)
        self.conv3 = make(block.conv3, True)
        self.shortcut = None if block.shortcut is None else make(block.shortcut, False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        kept = x if self.shortcut is None else self.shortcut(x)
        return self.conv3(self.conv2(self.conv1(x)), kept)


def _pack(root: nn.Module, make: _MakeConv) -> None:
    """Replace everything inside a module that can be packed, in place."""
    replaced: dict[nn.Module, nn.Module] = {}
    children: list[tuple[str, Any]] = list(root.named_children())
    for name, child in children:
        if type(child) is BottleneckBlock and all(
            _packable(c) for c in child.modules() if isinstance(c, nn.Conv2d)
        ):
            replaced[child] = FusedBottleneck(child, make)
        elif _packable(child):
            relu = _runs_in_order(root) and _fuse_relu(root, list(root._modules).index(name))
            replaced[child] = make(child, relu)
        else:
            _pack(child, make)
            continue
        setattr(root, name, replaced[child])
    for kept in vars(root).values():
        if isinstance(kept, list):  # detectron2's pyramid calls its convolutions from lists
            kept[:] = [replaced.get(x, x) if isinstance(x, nn.Module) else x for x in kept]


def _packable(module: nn.Module) -> bool:
    if type(module) is DetectronConv:
        return module.norm is None and module.activation is None and module.padding_mode == "zeros"
    return type(module) is nn.Conv2d and module.padding_mode == "zeros"


def _fuse_relu(parts: nn.Sequential, index: int) -> bool:
    """Whether a ReLU follows; if so, it is removed."""
    for i in range(index + 1, len(parts)):
        if isinstance(parts[i], nn.ReLU):
            parts[i] = nn.Identity()
            return True
        if not isinstance(parts[i], nn.Identity):
            break
    return False
