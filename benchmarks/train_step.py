"""How long one training step takes: forward, backward, SGD.

R-50, two images with 20 boxes each, mask loss at stride 4, from random weights. Ratios are to the
readable reference in fp32 (mask heads, targets, and the controller at every location) in whichever
memory format is the faster for it. Counted are convolutions and matrix products.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._rows import Row
from condinst.config import load_config
from condinst.modeling import instances
from condinst.modeling.fcos.head import flatten
from tests.condinst.modeling.fcos.readable_targets import assign_readably

RECIPE = Path(__file__).parents[1] / "configs" / "CondInst" / "MS_R_50_1x.yaml"
BOXES = 20
CONVOLUTIONS = ("aten::convolution", "aten::convolution_backward")
FORMATS = ("contiguous", "channels last")
_GOAL = "one of the two: >= 1.4 times, with AVX-512 >= 1.8"


class Size(NamedTuple):
    """Of the images, and where they are computed."""

    height: int = 800
    width: int = 1216
    repeats: int = 3
    device: str = "cpu"
    half: bool = False  # bf16 too: slow on CPUs without AMX


SMOKE = Size(height=64, width=64, repeats=1)


class Variant(NamedTuple):
    """A way to train."""

    backend: str
    memory_format: str
    half: bool = False

    def __str__(self) -> str:
        precision = ", bf16" if self.half else ""
        return f"{self.backend}, {self.memory_format}{precision}"


def build(backend: str, memory_format: str, device: str) -> nn.Module:
    """A model with norms that train from random weights."""
    keys = ["MODEL.DEVICE", device, "MODEL.WEIGHTS", "", "MODEL.CONDINST.BACKEND", backend]
    keys += ["MODEL.RESNETS.NORM", "BN", "MODEL.PIXEL_STD", "[57.0, 57.0, 57.0]"]
    keys += ["MODEL.CONDINST.MAX_PROPOSALS", "500"]
    torch.manual_seed(0)
    model = build_model(load_config(RECIPE, keys)).train()
    last = memory_format == "channels last"
    return model.to(memory_format=torch.channels_last) if last else model


def entry(h: int, w: int) -> dict[str, Any]:
    """An image and elliptic instances of many sizes."""
    centers, radii = torch.rand(BOXES, 2), torch.rand(BOXES, 2) ** 2 * 0.2 + 0.02
    y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
    dx = (x - centers[:, 0, None, None]) / radii[:, 0, None, None]
    dy = (y - centers[:, 1, None, None]) / radii[:, 1, None, None]
    objects = Instances((h, w))
    objects.gt_masks = BitMasks(dx**2 + dy**2 < 1)
    objects.gt_boxes = objects.gt_masks.get_bounding_boxes()
    objects.gt_classes = torch.arange(BOXES)
    assert isinstance(objects.gt_boxes, Boxes)
    return {"image": torch.randint(0, 256, (3, h, w), dtype=torch.uint8), "instances": objects}


def readable_parameters(controller: nn.Conv2d, features: list[Tensor], chosen: Tensor) -> Tensor:
    """`instances.parameters_at` as the paper has it: everywhere, then chosen."""
    return flatten([controller(x) for x in features])[chosen]


@contextlib.contextmanager
def readable_parts() -> Iterator[None]:
    """Targets and controller as their specifications have them."""
    with (
        mock.patch.object(instances, "assign", assign_readably),
        mock.patch.object(instances, "parameters_at", readable_parameters),
    ):
        yield


def make_step(
    model: Any, batch: list[dict[str, Any]], half: bool, *, readable: bool
) -> Callable[[], float]:
    """One step; returns its mask loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)

    def step() -> float:
        torch.manual_seed(2)  # the positives that get a mask loss are drawn
        context = readable_parts() if readable else contextlib.nullcontext()
        with context, torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return float(losses["loss_mask"].detach())  # waits for the device

    return step


class Taken(NamedTuple):
    """What the steps of a variant took."""

    loss: float  # of the first one's masks
    flops: float
    conv_flops: float
    seconds: list[float]
    conv_seconds: list[float]


def first(step: Callable[[], float]) -> Taken:
    """A step that warms up, counted."""
    with FlopCounterMode(display=False) as counter:
        loss = step()
    counts = counter.get_flop_counts()["Global"]
    convs = sum(count for operator, count in counts.items() if "convolution" in str(operator))
    return Taken(loss, sum(counts.values()), convs, [], [])


def again(step: Callable[[], float], taken: Taken) -> None:
    """A step that is timed, and its convolutions with it."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        start = time.perf_counter()
        step()
        taken.seconds.append(time.perf_counter() - start)
    convs = sum(x.cpu_time_total for x in seen.key_averages() if x.key in CONVOLUTIONS)
    taken.conv_seconds.append(convs / 1e6)


def rows(size: Size) -> Iterator[Row]:
    """The reference and what is trained with, each in both formats; then their convolutions."""
    torch.manual_seed(1)
    batch = [entry(size.height, size.width) for _ in range(2)]
    variants = [Variant(backend, x) for backend in ("reference", "auto") for x in FORMATS]
    variants += [Variant("auto", x, half=True) for x in FORMATS if size.half]
    steps, taken = {}, {}
    for variant in variants:
        model = build(variant.backend, variant.memory_format, size.device)
        readable = variant.backend == "reference"
        steps[variant] = make_step(model, batch, variant.half, readable=readable)
        taken[variant] = first(steps[variant])
    for _ in range(size.repeats):  # in turns, so that all share the machine's moods
        for variant, step in steps.items():
            again(step, taken[variant])
    table = f"Training step, R-50, 2 images of {size.height} x {size.width}, {size.device}"
    yield from _steps(table, taken, size.device)
    if size.device == "cpu":
        yield from _convolutions(f"{table}: its convolutions and their gradients", taken)


def _steps(table: str, taken: dict[Variant, Taken], device: str) -> Iterator[Row]:
    base = min(
        (x for x in taken if x.backend == "reference"),
        key=lambda x: statistics.median(taken[x].seconds),
    )
    for variant, found in taken.items():
        fast = variant.backend == "auto"
        goal = _GOAL if fast and device == "cpu" and not variant.half else ""
        yield Row(
            table, str(variant), found.seconds, str(base) if fast else "", goal, flops=found.flops,
            limit=_limit(variant, device), note=f"loss_mask {found.loss:.6f}",
        )  # fmt: skip


def _convolutions(table: str, taken: dict[Variant, Taken]) -> Iterator[Row]:
    for variant, found in taken.items():
        goal = ">= 90% of the limit" if variant.backend == "auto" else ""
        yield Row(
            table, str(variant), found.conv_seconds, goal=goal, flops=found.conv_flops,
            limit=_limit(variant, "cpu"),
        )  # fmt: skip


def _limit(variant: Variant, device: str) -> str:
    return f"{device} {'bf16' if variant.half else 'fp32'}"
