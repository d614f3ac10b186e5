"""A first try of a fast mask head: on a small case, against the reference.

Kernels that pass their tests on one device may be miscompiled on another. The reference runs in
double precision on the CPU, so that nothing of the device decides what is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from condinst.layers.neighbours import neighbour_offsets
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.box import BoxTruth

SIZE = (25, 23)  # more cells than one block of any kernel
IMAGES = (2, 0, 2, 2, 0)  # of each instance; image 1 of 3 has none
CPU = torch.device("cpu")
_GRADIENTS = ("gradient of the features", "gradient of the networks")
PIXELS = 1e-3  # share of a mask's pixels that may differ: those at its threshold


class Difference(NamedTuple):
    """How far a backend is from the reference, and how far it may be."""

    what: str
    found: float
    allowed: float

    @property
    def fits(self) -> bool:
        """False for NaN too."""
        return self.found <= self.allowed


def tolerance(dtype: torch.dtype) -> float:
    """Of losses and gradients, over the largest value: 1e-4, and two roundings of the type."""
    return 1e-4 + 2 * torch.finfo(dtype).eps


def differences(
    backend: MaskBackend, spec: MaskHeadSpec, device: torch.device, dtype: torch.dtype
) -> list[Difference]:
    """Computes the case of dice and final masks both ways.

    The generators of random numbers stay as they are.

    Args:
        backend: what is tried.
        spec: what it is asked for.
        device: where.
        dtype: of mask features and networks.

    Returns:
        For the loss, its gradients by the features and by the networks, and the masks.

    Raises:
        Exception: whatever the backend raises.
    """
    given = _inputs(spec, dtype)
    with _alone(device):
        wanted = _results(ReferenceBackend(), spec, given.to(CPU, torch.float64))
        found = _results(backend, spec, given.to(device, dtype))
    pixels = (found[3].cpu() != wanted[3]).double().mean().item()
    made = _compared(("loss", *_GRADIENTS), found[:3], wanted[:3], tolerance(dtype))
    return [*made, Difference("masks", pixels, PIXELS)]


def box_differences(
    backend: MaskBackend, spec: MaskHeadSpec, device: torch.device, dtype: torch.dtype
) -> list[Difference]:
    """Likewise for BoxInst's losses, with every other pair of pixels alike.

    Returns:
        For both losses, and for the gradients of a weighted sum of them.
    """
    given = _inputs(spec, dtype)
    with _alone(device):
        wanted = _box_results(ReferenceBackend(), spec, given.to(CPU, torch.float64))
        found = _box_results(backend, spec, given.to(device, dtype))
    names = ("projection loss", "pairwise loss", *_GRADIENTS)
    return _compared(names, found, wanted, tolerance(dtype))


class _Case(NamedTuple):
    """What is computed: features (3, C, h, w), K instances, masks and boxes to compare with."""

    features: Tensor
    query: MaskQuery
    masks: Tensor
    targets: Tensor
    truth: BoxTruth

    def to(self, device: torch.device, dtype: torch.dtype) -> _Case:
        """The same there, with features and networks of that type, which take gradients."""
        query, truth = self.query, self.truth
        params = query.params.to(device, dtype).requires_grad_()
        return _Case(
            self.features.to(device, dtype).requires_grad_(),
            MaskQuery(params, *(x.to(device) for x in query[1:])),
            self.masks.to(device),
            self.targets.to(device),
            truth._replace(
                spans=truth.spans.to(device),
                targets=truth.targets.to(device),
                alike=truth.alike.to(device),
            ),
        )


@contextlib.contextmanager
def _alone(device: torch.device) -> Iterator[None]:
    """Gradients and full precision, whatever the caller is in."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _inputs(spec: MaskHeadSpec, dtype: torch.dtype) -> _Case:
    """Seeded; features and networks as that type rounds them."""
    generator = torch.Generator().manual_seed(0)
    count, (h, w) = len(IMAGES), SIZE
    with torch.inference_mode(False):
        features = torch.randn(3, spec.layout.features, h, w, generator=generator)
        params = torch.randn(count, spec.layout.num_params, generator=generator) * 0.7
        shape = torch.tensor([w, h]) * spec.feature_stride
        factor = spec.feature_stride // spec.out_stride
        query = MaskQuery(
            params.to(dtype),
            torch.tensor(IMAGES),
            torch.rand(count, 2, generator=generator) * shape,
            torch.arange(count) % len(spec.sizes_of_interest),
        )
        size = (h * factor, w * factor)
        masks = torch.rand(4, *size, generator=generator) > 0.6
        offsets = neighbour_offsets(3, 2)
        alike = torch.rand(3, len(offsets), *size, generator=generator) > 0.5
        rows, columns = (torch.rand(4, 2, generator=generator).sort(1).values * n for n in size)
        spans = torch.cat((rows, columns), dim=1).long()
        targets = torch.arange(count) % 4
        return _Case(
            features.to(dtype), query, masks, targets, BoxTruth(spans, targets, alike, offsets)
        )


def _results(backend: MaskBackend, spec: MaskHeadSpec, case: _Case) -> list[Tensor]:
    """The loss, its gradients by features and networks, and masks of the last image."""
    features, query, masks, targets, _ = case
    loss = backend.loss(spec, features, query, masks, targets)
    grads = torch.autograd.grad(loss, (features, query.params), materialize_grads=True)
    of_last = query.images == IMAGES[0]
    one = MaskQuery(*(x[of_last].detach() for x in query))
    h, w = (n * spec.feature_stride for n in SIZE)
    drawn = backend.masks(spec, features.detach(), one, (h - 5, w - 3), (h - 30, w + 17))
    return [loss.detach(), *grads, drawn]


def _box_results(backend: MaskBackend, spec: MaskHeadSpec, case: _Case) -> list[Tensor]:
    """Both losses, and the gradients of a sum of them."""
    features, query, *_, truth = case
    losses = backend.box_losses(spec, features, query, truth)
    pairs = truth.alike[0].sum()
    total = losses[0] + losses[1] * (1 / pairs)
    grads = torch.autograd.grad(total, (features, query.params), materialize_grads=True)
    return [*(x.detach() for x in losses), *grads]


def _compared(
    names: Sequence[str], found: list[Tensor], wanted: list[Tensor], limit: float
) -> list[Difference]:
    return [
        Difference(name, _apart(a, b), limit)
        for name, a, b in zip(names, found, wanted, strict=True)
    ]


def _apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest value; 0 where there is nothing to compare."""
    if wanted.numel() == 0:
        return 0.0
    apart = (found.double().cpu() - wanted).abs().max()
    return (apart / wanted.abs().max().clamp(min=1e-30)).item()
