"""A timm network as a detectron2 backbone; the network is under ``net`` with timm's own names.

Only this module imports timm, which takes seconds: import it only where a network is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import timm
import torch
from detectron2.modeling import Backbone
from timm.layers import convert_sync_batchnorm, create_attn, freeze_batch_norm_2d
from timm.models.vovnet import OsaBlock
from torch import Tensor, nn

from condinst.errors import UserError

_TRIED = ((128, 160), (160, 224))  # pixels, multiples of the 32 that images are padded to
_TAKE = "use another network (docs/backbones.md lists those that work)"
NORMS = ("FrozenBN", "BN", "SyncBN")


@dataclass(frozen=True)
class Feature:
    """A feature map that a timm network outputs.

    Attributes:
        index: its position among the network's features.
        channels: its width.
        stride: image pixels per cell.
        module: name of the module that computes it.
    """

    index: int
    channels: int
    stride: int
    module: str


class TimmBackbone(Backbone):
    """A timm network as a detectron2 backbone.

    Args:
        net: a network with timm's ``forward_intermediates``.
        features: what to output, by name and from fine to coarse.
    """

    def __init__(self, net: nn.Module, features: dict[str, Feature]) -> None:
        super().__init__()
        self._indices = [feature.index for feature in features.values()]
        self._out_features = list(features)
        self._out_feature_channels = {name: f.channels for name, f in features.items()}
        self._out_feature_strides = {name: f.stride for name, f in features.items()}
        self.net = net
        self.stage_names = [f"net.{feature.module}" for feature in features.values()]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> the features by name, each (B, C, H / s, W / s), rounded up."""
        maps = self.net.forward_intermediates(  # pyrefly: ignore[not-callable] every timm network
            x, indices=self._indices, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(self._out_features, maps, strict=True))


def check_maps(backbone: TimmBackbone, name: str) -> None:
    """Refuse a network that does not take images of every size that occurs in training.

    Args:
        backbone: the network.
        name: timm's, for the message.

    Raises:
        UserError: it fails at a size, or its maps do not have the sizes that their strides imply.
    """
    was_training = backbone.training
    backbone.eval()
    for height, width in _TRIED:
        images = f"images of {height} x {width} pixels"
        try:
            with torch.no_grad():
                maps = backbone(torch.zeros(1, 3, height, width))
        except Exception as error:  # each network fails in its own way
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(
                f"timm/{name} does not take {images}: {reason}. Images differ in size here; {_TAKE}"
            ) from error
        for feature, found in maps.items():
            stride = backbone._out_feature_strides[feature]
            wanted = (-(-height // stride), -(-width // stride))
            if tuple(found.shape[-2:]) != wanted:
                raise UserError(
                    f"timm/{name} gives for {images} the map {feature} of {tuple(found.shape[-2:])}"
                    f" cells, not {wanted} as its stride {stride} says; {_TAKE}"
                )
    backbone.train(was_training)


def create_network(
    name: str, *, prefix: str = "res", **net_args: Any
) -> tuple[nn.Module, dict[str, Feature]]:
    """Build a timm network from random weights.

    Args:
        name: timm's name.
        prefix: features are named by it and the base-2 logarithm of their stride: with "res", the
            map at stride 8 is "res3" in every network.
        net_args: further arguments of ``timm.create_model``.

    Returns:
        The network without its classifier, and every feature it offers.

    Raises:
        UserError: timm has no such network, or it gives no feature maps.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        raise UserError(
            f"timm has no network {name!r}; similar names: {', '.join(near) or 'none'} "
            "(`timm.list_models()` lists all)"
        )
    try:
        wrapped = timm.create_model(
            name, pretrained=False, features_only=True, feature_cls="getter", **net_args
        )
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"timm/{name} does not give feature maps: {error}") from error
    info = wrapped.feature_info
    found = zip(
        wrapped.out_indices, info.channels(), info.reduction(), info.module_name(), strict=True
    )
    features = {f"{prefix}{round(log2(f[2]))}": Feature(*f) for f in found}
    net = wrapped.model
    if not hasattr(net, "forward_intermediates"):
        raise UserError(f"timm/{name} does not give its intermediate feature maps")
    return net, features


def choose_features(
    name: str, features: dict[str, Feature], wanted: Sequence[str]
) -> dict[str, Feature]:
    """The wanted features from fine to coarse.

    Args:
        name: the network's name, for the message.
        features: what the network offers.
        wanted: names of features.

    Raises:
        UserError: one of them is not offered, or ``wanted`` is empty.
    """
    if len(features) == 1:
        (only,) = features.values()
        raise UserError(f"timm/{name} only gives maps at stride {only.stride}, no pyramid; {_TAKE}")
    if not wanted or set(wanted) - set(features):
        raise UserError(
            f"{name} gives the features {list(features)}, not {list(wanted)}: "
            "set MODEL.FPN.IN_FEATURES to some of these"
        )
    return {feature: found for feature, found in features.items() if feature in set(wanted)}


def names_up_to(net: nn.Module, features: dict[str, Feature], freeze_at: int) -> list[str]:
    """Parameters that MODEL.BACKBONE.FREEZE_AT freezes, counted as in detectron2.

    Args:
        net: a network whose modules are defined in the order in which they run.
        features: what it offers.
        freeze_at: 0 or less: none; 1: all before the stage of stride 4; n: all up to and including
            the stage of stride 2 ** n.

    Raises:
        UserError: no stage has that stride.
    """
    if freeze_at <= 0:
        return []
    stages = {feature.stride: f"{feature.module}." for feature in features.values()}
    stage = stages.get(max(4, 2**freeze_at))
    if stage is None:
        allowed = sorted(round(log2(s)) for s in stages if s >= 4)
        raise UserError(f"MODEL.BACKBONE.FREEZE_AT = {freeze_at}: use 0, 1 or one of {allowed}")
    names = [name for name, _ in net.named_parameters()]
    inside = [i for i, name in enumerate(names) if name.startswith(stage)]
    return names[: inside[0] if freeze_at == 1 else inside[-1] + 1]


def freeze(net: nn.Module, names: Sequence[str], *, norms: bool = True) -> None:
    """Freeze parameters, in place.

    Args:
        net: the network.
        names: parameters to freeze.
        norms: also freeze the statistics of their batch norms.
    """
    frozen = set(names)
    for name in names:
        net.get_parameter(name).requires_grad_(False)
    for path, module in list(net.named_modules()):
        if norms and isinstance(module, nn.BatchNorm2d) and f"{path}.weight" in frozen:
            net.set_submodule(path, freeze_batch_norm_2d(module))


def with_norm(net: nn.Module, norm: str, key: str) -> nn.Module:
    """Replace a network's batch norms; other norms, such as ConvNeXt's, stay.

    Args:
        net: the network.
        norm: one of `NORMS`.
        key: the config key it was read from, for the message.

    Raises:
        UserError: ``norm`` is another kind.
    """
    if norm not in NORMS:
        raise UserError(f"{key} = {norm!r}: networks of timm can have {', '.join(NORMS)}")
    if norm == "FrozenBN":
        return freeze_batch_norm_2d(net)
    return convert_sync_batchnorm(net) if norm == "SyncBN" else net


def squeeze_every_block(net: nn.Module) -> None:
    """Give every block of a VoVNet its eSE, in place.

    timm only has one at the end of each stage, as in the paper's figure; the public code and
    weights have one in each block.

    Args:
        net: a VoVNet of timm.
    """
    for block in net.modules():
        if isinstance(block, OsaBlock) and block.attn is None:
            width = block.conv_concat.conv.out_channels
            block.attn = create_attn("ese", width)
