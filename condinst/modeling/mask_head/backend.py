"""What a mask-head backend is: the loss path and the inference path behind one signature.

Letters: ``B`` images, ``C`` mask features, ``h, w`` size of the mask features, ``K`` instances,
``M`` ground-truth masks of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from condinst.modeling.mask_head.rle import Rle, encode_masks
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth
from condinst.modeling.supervision.dice import Dice

TWO_TAPS = ("aligned", "plain")  # upsamplings that mix two neighbouring cells an axis


class MaskBackend(ABC):
    """A way to compute mask heads. All backends give the reference's results.

    Attributes:
        name: as MODEL.CONDINST.BACKEND has it.
        on_trial: at first use on a device it is compared with the reference; see `trial`.
    """

    name: str
    on_trial = False

    def unsupported(self, spec: MaskHeadSpec, device: torch.device) -> str | None:
        """What keeps it from computing this; None where nothing does.

        What holds for every fast path stands here. A subclass of a loss may have another formula,
        so losses are known by their exact type.
        """
        if type(spec.dice) is not Dice:
            return f"it knows no loss {type(spec.dice).__name__}"
        if spec.upsampling not in TWO_TAPS:
            return f"it knows no upsampling {spec.upsampling!r}"
        return None

    @abstractmethod
    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """Mean mask loss over the instances.

        Args:
            spec: what is computed.
            features: (B, C, h, w).
            query: K instances; K may be 0, the loss is then `no_loss`.
            masks: (M, H / s, W / s) bool at the spec's ``out_stride``.
            targets: (K,) index of each instance's mask.

        Returns:
            A scalar.
        """

    @abstractmethod
    def box_losses(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
    ) -> tuple[Tensor, Tensor]:
        """BoxInst's projection and pairwise losses, each summed over the instances.

        Args:
            spec: what is computed.
            features: (B, C, h, w).
            query: K instances; K may be 0, both losses are then `no_loss`.
            truth: at the spec's ``out_stride``.

        Returns:
            Two scalars.
        """

    @abstractmethod
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

    def rles(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> list[Rle]:
        """The masks of `masks` as COCO's runs."""
        return encode_masks(self.masks(spec, features, query, image_size, output_size))


def no_loss(features: Tensor, query: MaskQuery) -> Tensor:
    """The loss of no instance: zero, and connected to the graph."""
    return features[:0].sum() + query.params.sum()
