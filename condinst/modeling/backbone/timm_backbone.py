"""Backbones that timm builds: VoVNet, MobileNetV2 and DLA under the peers' names, and any other.

VoVNetV2: https://arxiv.org/abs/1911.06667, MobileNetV2: https://arxiv.org/abs/1801.04381,
DLA: https://arxiv.org/abs/1707.06484. ``condinst.checkpoint.backbone_tables`` maps the peers'
parameter names to timm's. Any other network: ``MODEL.BACKBONE.NAME: timm/<model>``.

Registers: ``build_vovnet_backbone``, ``build_fcos_vovnet_fpn_backbone``, ``build_mnv2_backbone``,
``build_fcos_mobilenetv2_fpn_backbone``, ``build_fcos_dla_fpn_backbone``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_backbone
from detectron2.modeling.backbone.fpn import FPN

from condinst.errors import UserError
from condinst.modeling.backbone.fpn import attach_fpn

if TYPE_CHECKING:
    from condinst.modeling.backbone.timm_network import TimmBackbone

TIMM_PREFIX = "timm/"
VOVNET_PREFIX = "stage"
VOVNET_BODIES = {
    "V-19-slim-dw-eSE": "ese_vovnet19b_slim_dw",
    "V-19-dw-eSE": "ese_vovnet19b_dw",
    "V-19-slim-eSE": "ese_vovnet19b_slim",
    "V-39-eSE": "ese_vovnet39b",
    "V-57-eSE": "ese_vovnet57b",
    "V-99-eSE": "ese_vovnet99b",
}
DLA_BODIES = {"DLA34": "dla34", "DLA60": "dla60", "DLA102": "dla102", "DLA169": "dla169"}


@BACKBONE_REGISTRY.register()
def build_vovnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """VoVNet (MODEL.VOVNET) with the features stage2 to stage5."""
    vovnet = cfg.MODEL.VOVNET
    body = _timm_name(vovnet.CONV_BODY, VOVNET_BODIES, "MODEL.VOVNET.CONV_BODY")
    norm = ("MODEL.VOVNET.NORM", vovnet.NORM)
    return _bottom_up(cfg, input_shape, body, vovnet.OUT_FEATURES, norm, prefix=VOVNET_PREFIX)


@BACKBONE_REGISTRY.register()
def build_fcos_vovnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """VoVNet (MODEL.VOVNET) with FCOS's FPN."""
    return attach_fpn(cfg, build_vovnet_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_mnv2_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """MobileNetV2 of width 1 with the features res2 to res5; MODEL.BACKBONE.FREEZE_AT counts units.

    A unit is the stem or one inverted residual, as in the public implementations. As there, batch
    norms of frozen units still update their statistics.
    """
    from condinst.modeling.backbone import timm_network

    net, features = timm_network.create_network("mobilenetv2_100", in_chans=input_shape.channels)
    chosen = timm_network.choose_features("MobileNetV2", features, ["res2", "res3", "res4", "res5"])
    units = [("conv_stem.", "bn1.")]
    for stage, blocks in net.get_submodule("blocks").named_children():
        units += [(f"blocks.{stage}.{block}.",) for block, _ in blocks.named_children()]
    frozen = sum(units[: max(0, cfg.MODEL.BACKBONE.FREEZE_AT)], ())
    names = [name for name, _ in net.named_parameters() if frozen and name.startswith(frozen)]
    timm_network.freeze(net, names, norms=False)
    return timm_network.TimmBackbone(
        timm_network.with_norm(net, cfg.MODEL.MOBILENET_NORM, "MODEL.MOBILENET_NORM"), chosen
    )


@BACKBONE_REGISTRY.register()
def build_fcos_mobilenetv2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """MobileNetV2 with FCOS's FPN."""
    return attach_fpn(cfg, build_mnv2_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_fcos_dla_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """DLA (MODEL.DLA) with FCOS's FPN; its features are level2 to level5."""
    body = _timm_name(cfg.MODEL.DLA.CONV_BODY, DLA_BODIES, "MODEL.DLA.CONV_BODY")
    norm = ("MODEL.DLA.NORM", cfg.MODEL.DLA.NORM)
    wanted = cfg.MODEL.FPN.IN_FEATURES
    return attach_fpn(cfg, _bottom_up(cfg, input_shape, body, wanted, norm, prefix="level"))


def _bottom_up(
    cfg: CfgNode,
    input_shape: ShapeSpec,
    name: str,
    wanted: Sequence[str],
    norm: tuple[str, str],
    *,
    prefix: str = "res",
) -> TimmBackbone:
    """A network with frozen stages; ``norm`` is a config key and its value."""
    from condinst.modeling.backbone import timm_network as tn

    net, features = tn.create_network(name, prefix=prefix, in_chans=input_shape.channels)
    if prefix == VOVNET_PREFIX:
        tn.squeeze_every_block(net)
    chosen = tn.choose_features(name, features, wanted)
    tn.freeze(net, tn.names_up_to(net, features, cfg.MODEL.BACKBONE.FREEZE_AT))
    return tn.TimmBackbone(tn.with_norm(net, norm[1], norm[0]), chosen)


def _timm_name(body: str, known: dict[str, str], key: str) -> str:
    if body not in known:
        raise UserError(f"{key} = {body!r}: use one of {', '.join(known)}")
    return known[body]


def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The network named by MODEL.BACKBONE.NAME ``timm/<model>`` with FCOS's FPN.

    Args:
        cfg: reads MODEL.TIMM.NORM, MODEL.BACKBONE.FREEZE_AT and the pyramid's keys.
        input_shape: channels of the image.
    """
    name = cfg.MODEL.BACKBONE.NAME.removeprefix(TIMM_PREFIX)
    norm = ("MODEL.TIMM.NORM", cfg.MODEL.TIMM.NORM)
    return attach_fpn(cfg, _bottom_up(cfg, input_shape, name, cfg.MODEL.FPN.IN_FEATURES, norm))


def check_backbone(cfg: CfgNode) -> None:
    """Refuse a timm network that cannot work before training starts, with name and reason.

    Args:
        cfg: the complete config; backbones of other names pass.

    Raises:
        UserError: the network is unknown, gives no pyramid, or takes images of only one size.
    """
    if cfg.MODEL.BACKBONE.NAME.startswith(TIMM_PREFIX):
        from condinst.modeling.backbone.timm_network import check_maps

        built: Any = build_named_backbone(cfg)
        check_maps(built.bottom_up, cfg.MODEL.BACKBONE.NAME.removeprefix(TIMM_PREFIX))


def build_named_backbone(cfg: CfgNode) -> Backbone:
    """Build MODEL.BACKBONE.NAME: a name registered with detectron2, or ``timm/<model>``.

    Args:
        cfg: the complete config.

    Raises:
        UserError: no backbone has that name.
    """
    name = cfg.MODEL.BACKBONE.NAME
    if name.startswith(TIMM_PREFIX):
        return build_timm_fpn_backbone(cfg, ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN)))
    if name not in BACKBONE_REGISTRY:
        known = sorted(n for n, _ in BACKBONE_REGISTRY)
        near = difflib.get_close_matches(name, known, n=3)
        raise UserError(
            f"MODEL.BACKBONE.NAME = {name!r} is not registered; similar names: "
            f"{', '.join(near) or ', '.join(known)}, or timm/<model>"
        )
    return build_backbone(cfg)
