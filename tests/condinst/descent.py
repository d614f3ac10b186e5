"""Comparing a model's first steps of plain SGD with recorded ones, as closely as the CPU allows.

CPUs round and add in different orders. Batch norm over few cells and ReLUs near zero turn that into
1e-2 of a loss within five steps, and into as much of a single parameter's gradient. So the losses
and the norm of the whole gradient have fixed limits, and what magnifies rounding is held to three
times what the model itself shows on the machine at hand when its weights move by one unit in the
last place (ulp).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from condinst.checkpoint.key_tables import to_peer
from tests.condinst.parity import Case, model_inputs

LOSSES = 1e-4  # of the first two steps
GRADIENTS = 1e-3  # of the whole gradient's norm
LATER = 1e-3  # at least this for later steps and for single parameters' gradients
SPREADS = 3  # how many times the model's own spread
LEAST, MOST = 3, 16  # tries of the spread: a ReLU that flips does so in one of a few
_NOISE = 2e-7  # of the largest norm: the gradient of a bias under a norm is rounding alone


class Descent(NamedTuple):
    """The loss terms of each step, and the norms of the first step's gradients."""

    losses: list[dict[str, float]]
    norms: dict[str, float]


class Errors(NamedTuple):
    """Relative: the worst loss term of each step, each gradient's norm, the whole gradient's."""

    steps: list[float]
    norms: dict[str, float]
    whole: float


class Verdict(NamedTuple):
    """How far a model is from a recording, how far it may be, and what it is over that."""

    errors: Errors
    limits: Errors
    tries: int
    over: list[str]


def judge(make: Callable[[], nn.Module], case: Case, most: int = MOST) -> Verdict:
    """Holds a model to a recording. Its spread is measured only where the fixed limits are passed.

    Args:
        make: the model with the recorded weights, a new one at each call.
        case: the recording.
        most: tries of the spread; it ends early when the model is within its limits.
    """
    steps = {"lr": case["sgd"]["lr"], "steps": len(case["sgd"]["losses"])}
    own = descend(make(), case, **steps)
    found = compare(own, recorded(case))
    spread: list[Errors] = []
    while True:
        limits = allowed(found, spread)
        over = _over(found, limits)
        if len(spread) >= most or (not over and len(spread) not in range(1, LEAST)):
            return Verdict(found, limits, len(spread), over)
        spread.append(compare(descend(nudged(make(), len(spread)), case, **steps), own))


def recorded(case: Case) -> Descent:
    """What the recording says."""
    first = case["sgd"]["losses"][0]
    assert max(_relative(first[name], x) for name, x in case["train_losses"].items()) < 1e-6
    return Descent(case["sgd"]["losses"], case["grad_norms"])


def descend(model: nn.Module, case: Case, lr: float, steps: int) -> Descent:
    """Plain SGD on the case's images; gradients by the peer's names if the case has a peer."""
    parameters = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr)
    inputs, made, norms = model_inputs(case), [], {}
    for _ in range(steps):
        losses = model(inputs)
        made.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        norms = norms or _norms(model, case)
        optimizer.step()
    return Descent(made, norms)


def _norms(model: nn.Module, case: Case) -> dict[str, float]:
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    if "peer" in case:
        gradients = to_peer(gradients, case["peer"]).state
    return {name: x.double().norm().item() for name, x in gradients.items()}


def nudged(model: nn.Module, seed: int) -> nn.Module:
    """Every weight moved up or down by one unit in the last place, in place; zeros stay."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in model.parameters():
            up = torch.rand(x.shape, generator=random) < 0.5
            moved = torch.nextafter(x, torch.where(up, torch.inf, -torch.inf))
            x.copy_(torch.where(x == 0, x, moved))
    return model


def compare(found: Descent, wanted: Descent) -> Errors:
    """Both must have the same loss terms and the same parameters."""
    assert found.norms.keys() == wanted.norms.keys()
    steps = []
    for ours, theirs in zip(found.losses, wanted.losses, strict=True):
        assert ours.keys() == theirs.keys()
        steps.append(max(_relative(ours[name], x) for name, x in theirs.items()))
    noise = _NOISE * max(wanted.norms.values())
    norms = {n: _relative(found.norms[n], x, noise) for n, x in wanted.norms.items()}
    return Errors(steps, norms, _relative(_whole(found.norms), _whole(wanted.norms)))


def allowed(found: Errors, spread: list[Errors]) -> Errors:
    """The limits of what was found, from the spread seen so far.

    The second step's may not pass `LATER` whatever the spread.
    """

    def widest(seen: Iterable[float]) -> float:
        return SPREADS * max(seen, default=0.0)

    steps = [widest(one.steps[i] for one in spread) for i in range(len(found.steps))]
    second = min(max(LOSSES, steps[1]), LATER)
    steps = [LOSSES, second, *(max(LATER, x) for x in steps[2:])]
    norms = {n: max(LATER, widest(one.norms[n] for one in spread)) for n in found.norms}
    return Errors(steps, norms, GRADIENTS)


def _over(found: Errors, limits: Errors) -> list[str]:
    steps = enumerate(zip(found.steps, limits.steps, strict=True), start=1)
    pairs = [(f"step {i}", *both) for i, both in steps]
    pairs += [(name, x, limits.norms[name]) for name, x in found.norms.items()]
    pairs.append(("whole gradient", found.whole, limits.whole))
    return [f"{name}: {x:.1e}, allowed {most:.1e}" for name, x, most in pairs if not x <= most]


def _whole(norms: Mapping[str, float]) -> float:
    return sum(x * x for x in norms.values()) ** 0.5


def _relative(found: float, wanted: float, noise: float = 0.0) -> float:
    assert math.isfinite(found), found
    return max(abs(found - wanted) - noise, 0.0) / max(abs(wanted), 1e-12)
