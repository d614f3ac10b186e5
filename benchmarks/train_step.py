"""How long one training step takes: forward, backward, SGD.

R-50, two images with 20 boxes each, mask loss at stride 4, from random weights. Ratios are to the
readable reference in fp32: mask heads, targets, and the controller at every location.
`--size 128 192 --repeats 1` tries it out.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor, nn

from benchmarks._measure import markdown
from condinst.config import load_config
from condinst.modeling import instances
from condinst.modeling.fcos.head import flatten
from tests.condinst.modeling.fcos.readable_targets import assign_readably

RECIPE = Path(__file__).parents[1] / "configs" / "CondInst" / "MS_R_50_1x.yaml"
BOXES = 20


def build(backend: str, device: str, channels_last: bool) -> nn.Module:
    """A model with norms that train from random weights."""
    keys = ["MODEL.DEVICE", device, "MODEL.WEIGHTS", "", "MODEL.CONDINST.BACKEND", backend]
    keys += ["MODEL.RESNETS.NORM", "BN", "MODEL.PIXEL_STD", "[57.0, 57.0, 57.0]"]
    keys += ["MODEL.CONDINST.MAX_PROPOSALS", "500"]
    torch.manual_seed(0)
    model = build_model(load_config(RECIPE, keys)).train()
    return model.to(memory_format=torch.channels_last) if channels_last else model


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


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1216), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="bf16 too: slow without AMX")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    batch = [entry(*arguments.size) for _ in range(2)]
    variants = {
        "reference, fp32": ("reference", False, False),
        "as trained: auto, fp32, channels last": ("auto", True, False),
    }
    if arguments.half:
        variants["the same in bf16"] = ("auto", True, True)
    steps, losses = {}, {}
    for name, (backend, channels_last, half) in variants.items():
        model = build(backend, arguments.device, channels_last)
        steps[name] = make_step(model, batch, half, readable=backend == "reference")
        losses[name] = steps[name]()  # also warms it up
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(arguments.repeats):  # in turns, so that all share the machine's moods
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["reference, fp32"])
    rows = []
    for name, taken in times.items():
        middle, spread = statistics.median(taken), f"{min(taken):.3f} to {max(taken):.3f}"
        rows.append((name, f"{middle:.3f}", spread, f"{base / middle:.2f}", f"{losses[name]:.6f}"))
    heads = ("", "median s", "fastest to slowest", "times faster (goal >= 1.7)", "loss_mask")
    size = f"{arguments.size[0]} x {arguments.size[1]}"
    markdown(f"Training step, R-50, 2 images of {size}, {arguments.device}", heads, rows)


if __name__ == "__main__":
    main()
