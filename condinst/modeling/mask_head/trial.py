"""A first try of a fast mask head: on a small case, against the reference.

Kernels that pass their tests on one device may be miscompiled on another. The reference runs in
double precision on the CPU, so that nothing of the device decides what is right.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery

SIZE = (25, 23)  # more cells than one block of any kernel
IMAGES = (2, 0, 2, 2, 0)  # of each instance; image 1 of 3 has none
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
    """Computes the case both ways.

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
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.autocast("cpu", enabled=False),
    ):
        features, params, rest = _inputs(spec, dtype)
        wanted = _results(ReferenceBackend(), spec, features.double(), params.double(), rest)
        found = _results(
            backend, spec, features.to(device), params.to(device), [x.to(device) for x in rest]
        )
    limit = tolerance(dtype)
    names = ("loss", "gradient of the features", "gradient of the networks")
    made = [
        Difference(name, _apart(a, b), limit)
        for name, a, b in zip(names, found[:3], wanted[:3], strict=True)
    ]
    pixels = (found[3].cpu() != wanted[3]).double().mean().item()
    return [*made, Difference("masks", pixels, PIXELS)]


def _inputs(spec: MaskHeadSpec, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Features (3, C, h, w), networks (K, N); images, locations, levels, masks, targets."""
    generator = torch.Generator().manual_seed(0)
    count, (h, w) = len(IMAGES), SIZE
    features = torch.randn(3, spec.layout.features, h, w, generator=generator)
    params = torch.randn(count, spec.layout.num_params, generator=generator) * 0.7
    shape = torch.tensor([w, h]) * spec.feature_stride
    factor = spec.feature_stride // spec.out_stride
    rest = [
        torch.tensor(IMAGES),
        torch.rand(count, 2, generator=generator) * shape,
        torch.arange(count) % len(spec.sizes_of_interest),
        torch.rand(4, h * factor, w * factor, generator=generator) > 0.6,
        torch.arange(count) % 4,
    ]
    return features.to(dtype), params.to(dtype), rest


def _results(
    backend: MaskBackend, spec: MaskHeadSpec, features: Tensor, params: Tensor, rest: list[Tensor]
) -> list[Tensor]:
    """The loss, its gradients by features and networks, and masks of the last image."""
    images, locations, levels, masks, targets = rest
    features, params = features.requires_grad_(), params.requires_grad_()
    query = MaskQuery(params, images, locations, levels)
    loss = backend.loss(spec, features, query, masks, targets)
    grads = torch.autograd.grad(loss, (features, params), materialize_grads=True)
    of_last = images == IMAGES[0]
    one = MaskQuery(*(x[of_last].detach() for x in query))
    h, w = (n * spec.feature_stride for n in SIZE)
    drawn = backend.masks(spec, features.detach(), one, (h - 5, w - 3), (h - 30, w + 17))
    return [loss.detach(), *grads, drawn]


def _apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest value; 0 where there is nothing to compare."""
    if wanted.numel() == 0:
        return 0.0
    apart = (found.double().cpu() - wanted).abs().max()
    return (apart / wanted.abs().max().clamp(min=1e-30)).item()
