"""Names inside backbones that timm builds here and the peers built themselves.

Peers' VoVNet follows vovnet-detectron2, MobileNetV2 follows tonylins/pytorch-mobilenet-v2, DLA
follows ucbdrive/dla; ours are timm's own names below ``net``.
"""

from __future__ import annotations

from condinst.checkpoint.rows import Prefix, Row, Template

BOTTOM_UP = "backbone.bottom_up."
_NET = BOTTOM_UP + "net."

_OSA = BOTTOM_UP + "stage{s+2}.OSA{s+2}_{b+1}."
_OSA_OURS = _NET + "stages.{s}.blocks.{b}."
_LAYER = _OSA + "layers.{l}.OSA{s+2}_{b+1}_{l}/"
_LAYER_OURS = _OSA_OURS + "conv_mid.{l}."
_STEM = BOTTOM_UP + "stem.stem_{i+1}/"
_STEM_OURS = _NET + "stem.{i}."


def _convolution(peer: str, ours: str) -> tuple[Template, ...]:
    """One unit of VoVNet: conv and norm, or depthwise conv, pointwise conv and norm."""
    return (
        Template(peer + "pw_norm.", ours + "bn.", only_if=ours + "conv_dw.weight"),
        Template(peer + "dw_conv3x3.", ours + "conv_dw."),
        Template(peer + "pw_conv1x1.", ours + "conv_pw."),
        Template(peer + "conv.", ours + "conv."),
        Template(peer + "norm.", ours + "bn."),
    )


VOVNET: tuple[Row, ...] = (
    *_convolution(_STEM, _STEM_OURS),
    *_convolution(_LAYER, _LAYER_OURS),
    *_convolution(_OSA + "concat.OSA{s+2}_{b+1}_concat/", _OSA_OURS + "conv_concat."),
    *_convolution(
        _OSA + "conv_reduction.OSA{s+2}_{b+1}_reduction_0/", _OSA_OURS + "conv_reduction."
    ),
    Template(_OSA + "ese.fc.", _OSA_OURS + "attn.fc."),
)

# Inverted residuals by stage; the peers number them through, after the stem.
_MOBILENET_REPEATS = (1, 2, 3, 4, 3, 3, 1)
_FIRST_BLOCK = {0: "conv_dw", 1: "bn1", 3: "conv_pw", 4: "bn2"}
_BLOCK = {0: "conv_pw", 1: "bn1", 3: "conv_dw", 4: "bn2", 6: "conv_pwl", 7: "bn3"}
_PLACES = [(s, b) for s, repeats in enumerate(_MOBILENET_REPEATS) for b in range(repeats)]

MOBILENETV2: tuple[Row, ...] = (
    Prefix(BOTTOM_UP + "features.0.0.", _NET + "conv_stem."),
    Prefix(BOTTOM_UP + "features.0.1.", _NET + "bn1."),
    *(
        Prefix(f"{BOTTOM_UP}features.{i}.conv.{part}.", f"{_NET}blocks.{stage}.{block}.{name}.")
        for i, (stage, block) in enumerate(_PLACES, start=1)
        for part, name in (_FIRST_BLOCK if i == 1 else _BLOCK).items()
    ),
)

DLA: tuple[Row, ...] = (
    Prefix(BOTTOM_UP + "base_layer.", _NET + "base_layer."),
    Template(BOTTOM_UP + "level{i}.", _NET + "level{i}."),
)

BACKBONES: tuple[Row, ...] = (*VOVNET, *MOBILENETV2, *DLA)
