"""What a mask-head backend is: the loss path and the inference path behind one signature.

Letters: ``B`` images, ``C`` mask features, ``h, w`` size of the mask features, ``K`` instances,
    ``N`` numbers of
one, ``M`` ground-truth masks of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from detectron2.config import CfgNode
from torch import Tensor

from condinst.errors import UserError
from condinst.layers.upsampling import get_upsampling
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.rle import Rle
from condinst.modeling.supervision.box import BoxTruth
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


class MaskBackend(Protocol):
    """A way to compute mask heads. All backends give the reference's numbers."""

    @property
    def name(self) -> str:
        """As MODEL.CONDINST.BACKEND has it."""
        ...

    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """Mean mask loss over the instances.

        Args:
            spec: what is computed.
            features: (B, C, h, w).
            query: K instances; K may be 0, the loss is then 0 and connected to the graph.
            masks: (M, H / s, W / s) bool at the spec's ``out_stride``.
            targets: (K,) index of each instance's mask.

        Returns:
            A scalar.
        """
        ...

    def box_losses(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
    ) -> tuple[Tensor, Tensor]:
        """BoxInst's projection and pairwise losses, each summed over the instances.

        Args:
            spec: what is computed.
            features: (B, C, h, w).
            query: K instances; K may be 0, the losses are then 0 and connected to the graph.
            truth: at the spec's ``out_stride``.

        Returns:
            Two scalars.
        """
        ...

    def masks(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Tensor:
        """Masks of one image at its original size.

        Args:
            spec: what is computed.
            features: (B, C, h, w).
            query: K instances, all of one image.
            image_size: height and width of the resized image, without padding.
            output_size: height and width of the original image.

        Returns:
            (K, *output_size) bool.
        """
        ...

    def rles(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> list[Rle]:
        """The masks of `masks` as COCO's runs."""
        ...


BACKENDS = ("auto", "reference", "tiles", "numba", "triton")


def get_backend(name: str) -> MaskBackend:
    """The backend of MODEL.CONDINST.BACKEND.

    ``auto`` is ``numba`` on a CPU and ``triton`` on a GPU that has it. A named backend that cannot
    compute what is asked leaves it to the reference and says so.

    Raises:
        UserError: there is none of that name.
    """
    from condinst.modeling.mask_head.auto import ChosenBackend

    if name not in BACKENDS:
        raise UserError(f"MODEL.CONDINST.BACKEND = {name!r}: use one of {', '.join(BACKENDS)}")
    if name == "reference":
        return ChosenBackend([])
    if name == "tiles":
        from condinst.modeling.mask_head.tiles import TilesBackend

        return ChosenBackend([TilesBackend()])
    from condinst.modeling.mask_head.triton_backend import TritonBackend, is_installed

    if name == "triton":
        return ChosenBackend([TritonBackend()])
    # A second to import: only where it is used.
    from condinst.modeling.mask_head.numba_backend import NumbaBackend

    if name == "auto" and torch.cuda.is_available() and is_installed():
        return ChosenBackend([TritonBackend(), NumbaBackend()])
    return ChosenBackend([NumbaBackend()])
