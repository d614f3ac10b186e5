"""What mask heads compute: the recipe's part of it, and the instances asked for.

Letters: ``K`` instances, ``N`` parameters of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from detectron2.config import CfgNode
from torch import Tensor

from condinst.errors import UserError
from condinst.layers.upsampling import get_upsampling
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.supervision.dice import Dice

COORDINATES = ("relative", "absolute", "none")


@dataclass(frozen=True)
class MaskHeadSpec:
    """Everything a backend must know beside its tensors.

    Attributes:
        layout: size of the networks.
        coordinates: relative, absolute or none.
        sizes_of_interest: pixels, one a pyramid level; relative coordinates are divided by it.
        feature_stride: stride of the mask features.
        out_stride: stride at which masks are supervised; divides ``feature_stride``.
        inference_stride: stride at which logits become probabilities in inference.
        upsampling: a name of `condinst.layers.upsampling.UPSAMPLINGS`.
        dice: the loss.
    """

    layout: HeadLayout
    coordinates: str
    sizes_of_interest: tuple[float, ...]
    feature_stride: int
    out_stride: int
    inference_stride: int
    upsampling: str
    dice: Dice

    @classmethod
    def from_config(cls, cfg: CfgNode, feature_stride: int) -> MaskHeadSpec:
        """Read MODEL.CONDINST.

        Raises:
            UserError: a name is unknown or a stride does not divide the features' stride.
        """
        node = cfg.MODEL.CONDINST
        coordinates = node.COORDINATES
        if coordinates not in COORDINATES:
            raise UserError(
                f"MODEL.CONDINST.COORDINATES = {coordinates!r}: use one of {', '.join(COORDINATES)}"
            )
        if node.MASK_HEAD.DISABLE_REL_COORDS:
            coordinates = "none"
        get_upsampling(node.UPSAMPLING)
        inference_stride = (
            node.INFERENCE_STRIDE if node.INFERENCE_STRIDE > 0 else node.MASK_OUT_STRIDE
        )
        for key, stride in (
            ("MASK_OUT_STRIDE", node.MASK_OUT_STRIDE),
            ("INFERENCE_STRIDE", inference_stride),
        ):
            if stride < 1 or feature_stride % stride:
                raise UserError(
                    f"MODEL.CONDINST.{key} = {stride}: use a divisor of the mask features' "
                    f"stride {feature_stride}"
                )
        sizes = [float(s) for s in cfg.MODEL.FCOS.SIZES_OF_INTEREST]
        if not sizes:
            sizes = [float(cfg.MODEL.FCOS.FPN_STRIDES[0]) * 4]  # one level: its usual limit
        return cls(
            layout=HeadLayout(
                features=node.MASK_BRANCH.OUT_CHANNELS if node.USE_MASK_FEATURES else 0,
                coords=0 if coordinates == "none" else 2,
                width=node.MASK_HEAD.CHANNELS,
                depth=node.MASK_HEAD.NUM_LAYERS,
            ),
            coordinates=coordinates,
            sizes_of_interest=(*sizes, sizes[-1] * 2),
            feature_stride=feature_stride,
            out_stride=node.MASK_OUT_STRIDE,
            inference_stride=inference_stride,
            upsampling=node.UPSAMPLING,
            dice=Dice.from_config(cfg),
        )


class MaskQuery(NamedTuple):
    """The instances whose masks are wanted.

    Attributes:
        params: (K, N) their networks.
        images: (K,) index of the image whose mask features they read.
        locations: (K, 2) where they were predicted, pixels.
        levels: (K,) index of the pyramid level they were predicted on.
    """

    params: Tensor
    images: Tensor
    locations: Tensor
    levels: Tensor
