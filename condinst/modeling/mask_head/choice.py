"""Which mask-head backend computes what; the log says it once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condinst.errors import UserError
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.rle import Rle
from condinst.modeling.mask_head.spec import MaskHeadSpec
from condinst.modeling.mask_head.triton_backend import TritonBackend, is_installed

BACKENDS = ("auto", "reference", "numba", "triton")
_LOGGER = logging.getLogger(__name__)


class ChosenBackend(MaskBackend):
    """The first of some backends that can compute what is asked; else the reference.

    Says which one at its first use, and why an earlier one is passed over.
    """

    def __init__(self, candidates: Sequence[MaskBackend]) -> None:
        self.candidates = [*candidates, ReferenceBackend()]
        self.name = ", ".join(x.name for x in self.candidates)
        self._said: set[str] = set()

    def choose(self, spec: MaskHeadSpec, device: torch.device) -> MaskBackend:
        """The backend for features on a device."""
        for candidate in self.candidates:
            reason = candidate.unsupported(spec, device)
            if reason is None:
                self._say_once(f"Mask heads: backend {candidate.name}")
                return candidate
            self._say_once(f"Mask heads: backend {candidate.name} is not used: {reason}")
        raise AssertionError(self.name)  # the reference computes everything

    def loss(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> Tensor:
        """See `MaskBackend`."""
        return self.choose(spec, features.device).loss(spec, features, *rest)

    def masks(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> Tensor:
        """See `MaskBackend`."""
        return self.choose(spec, features.device).masks(spec, features, *rest)

    def rles(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> list[Rle]:
        """See `MaskBackend`."""
        return self.choose(spec, features.device).rles(spec, features, *rest)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _LOGGER.info(text)


def get_backend(name: str) -> MaskBackend:
    """The backend of MODEL.CONDINST.BACKEND.

    ``auto`` is ``numba`` on a CPU and ``triton`` on a GPU that has it. A named backend that cannot
    compute what is asked leaves it to the reference and says so.

    Raises:
        UserError: there is none of that name.
    """
    if name not in BACKENDS:
        raise UserError(f"MODEL.CONDINST.BACKEND = {name!r}: use one of {', '.join(BACKENDS)}")
    candidates: list[MaskBackend] = []
    if name == "triton" or (name == "auto" and torch.cuda.is_available() and is_installed()):
        candidates.append(TritonBackend())
    if name in ("auto", "numba"):
        # A second to import: only where it is used.
        from condinst.modeling.mask_head.numba_backend import NumbaBackend

        candidates.append(NumbaBackend())
    return ChosenBackend(candidates)
