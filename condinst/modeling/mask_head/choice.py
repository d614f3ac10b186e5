"""Which mask-head backend computes what; the log says it once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from condinst.errors import UserError
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.rle import Rle
from condinst.modeling.mask_head.spec import MaskHeadSpec
from condinst.modeling.mask_head.trial import box_differences, differences
from condinst.modeling.mask_head.triton_backend import TritonBackend, is_installed

BACKENDS = ("auto", "reference", "numba", "triton")
Task = Literal["masks", "boxes"]  # dice and final masks; BoxInst's losses
_TASKS: dict[Task, str] = {"masks": "Mask heads", "boxes": "Losses from boxes"}
_LOGGER = logging.getLogger(__name__)


class ChosenBackend(MaskBackend):
    """The first of some backends that can compute what is asked; else the reference.

    One on trial must first agree with the reference on a small case, on each device and type of
    numbers, and for each task apart. Says which one at its first use, and why an earlier one is
    passed over.
    """

    def __init__(self, candidates: Sequence[MaskBackend]) -> None:
        self.candidates = [*candidates, ReferenceBackend()]
        self.name = ", ".join(x.name for x in self.candidates)
        self._said: set[str] = set()
        self._tried: dict[tuple[object, ...], bool] = {}

    def choose(self, spec: MaskHeadSpec, features: Tensor, task: Task = "masks") -> MaskBackend:
        """The backend of a task for features of one device and type."""
        for candidate in self.candidates:
            reason = candidate.unsupported(spec, features.device)
            if reason is not None:
                self._say_once(f"{_TASKS[task]}: backend {candidate.name} is not used: {reason}")
            elif not candidate.on_trial or self._passes(candidate, spec, features, task):
                self._say_once(f"{_TASKS[task]}: backend {candidate.name}")
                return candidate
        raise AssertionError(self.name)  # the reference computes everything

    def _passes(
        self, candidate: MaskBackend, spec: MaskHeadSpec, features: Tensor, task: Task
    ) -> bool:
        key = (candidate.name, spec, features.device, features.dtype, task)
        if key not in self._tried:
            self._tried[key] = _try_out(candidate, spec, features.device, features.dtype, task)
        return self._tried[key]

    def loss(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> Tensor:
        """See `MaskBackend`."""
        return self.choose(spec, features).loss(spec, features, *rest)

    def box_losses(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        """See `MaskBackend`."""
        return self.choose(spec, features, "boxes").box_losses(spec, features, *rest)

    def masks(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> Tensor:
        """See `MaskBackend`."""
        return self.choose(spec, features).masks(spec, features, *rest)

    def rles(self, spec: MaskHeadSpec, features: Tensor, *rest: Any) -> list[Rle]:
        """See `MaskBackend`."""
        return self.choose(spec, features).rles(spec, features, *rest)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _LOGGER.info(text)


def _try_out(
    backend: MaskBackend, spec: MaskHeadSpec, device: torch.device, dtype: torch.dtype, task: Task
) -> bool:
    """Whether a backend agrees with the reference; the log has the figures."""
    compare = differences if task == "masks" else box_differences
    try:
        found = compare(backend, spec, device, dtype)
    except torch.OutOfMemoryError:
        raise  # says nothing about the kernels
    except Exception as error:  # whatever a compiler or driver raises
        problem = f"its trial failed with {type(error).__name__}: {error}"
    else:
        figures = ", ".join(f"{x.what} {x.found:.1e} (at most {x.allowed:.0e})" for x in found)
        if all(x.fits for x in found):
            _LOGGER.info("%s: trial of backend %s passed: %s", _TASKS[task], backend.name, figures)
            return True
        problem = f"its trial differs from the reference: {figures}"
    _LOGGER.warning(
        "%s: backend %s is not used: %s. Please report this with: %s, %s, torch %s, %s",
        _TASKS[task], backend.name, problem, _device_name(device), dtype, torch.__version__, spec,
    )  # fmt: skip
    return False


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


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
