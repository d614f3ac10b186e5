"""Which mask head computes what, and the word about it in the log."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor

from condinst.modeling.mask_head import box_reference
from condinst.modeling.mask_head.head import MaskBackend, MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.rle import Rle
from condinst.modeling.supervision.box import BoxTruth

_LOGGER = logging.getLogger(__name__)


class FastBackend(MaskBackend, Protocol):
    """A backend that does not compute everything."""

    def unsupported(self, spec: MaskHeadSpec, device: torch.device) -> str | None:
        """What keeps it from computing this; None where nothing does."""
        ...


class ChosenBackend:
    """The first of some backends that can compute what is asked; else the reference.

    Says which one at its first use, and why an earlier one is passed over.
    """

    def __init__(self, candidates: list[FastBackend]) -> None:
        self.candidates = candidates
        self._said: set[str] = set()

    @property
    def name(self) -> str:
        """The candidates' names."""
        return ", ".join(x.name for x in self.candidates)

    def choose(self, spec: MaskHeadSpec, device: torch.device) -> MaskBackend:
        """The backend for features on a device."""
        for candidate in self.candidates:
            reason = candidate.unsupported(spec, device)
            if reason is None:
                return self._say(candidate)
            self._say_once(f"Mask heads: backend {candidate.name} is not used: {reason}")
        return self._say(ReferenceBackend())

    def loss(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor, targets: Tensor
    ) -> Tensor:
        """See `MaskBackend`."""
        return self.choose(spec, features.device).loss(spec, features, query, masks, targets)

    def box_losses(
        self, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
    ) -> tuple[Tensor, Tensor]:
        """See `MaskBackend`."""
        return box_reference.box_losses(spec, features, query, truth)

    def masks(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Tensor:
        """See `MaskBackend`."""
        chosen = self.choose(spec, features.device)
        return chosen.masks(spec, features, query, image_size, output_size)

    def rles(
        self,
        spec: MaskHeadSpec,
        features: Tensor,
        query: MaskQuery,
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> list[Rle]:
        """See `MaskBackend`."""
        chosen = self.choose(spec, features.device)
        return chosen.rles(spec, features, query, image_size, output_size)

    def _say(self, backend: MaskBackend) -> MaskBackend:
        self._say_once(f"Mask heads: backend {backend.name}")
        return backend

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _LOGGER.info(text)
