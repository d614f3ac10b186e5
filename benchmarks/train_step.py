"""How long one training step takes: forward, backward, SGD.

R-50, two images with 20 boxes each, mask loss at stride 4, from random weights. Ratios are to the
readable reference in fp32. `--size 128 192 --repeats 1` tries it out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from condinst.config import load_config

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
    instances = Instances((h, w))
    instances.gt_masks = BitMasks(dx**2 + dy**2 < 1)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.arange(BOXES)
    assert isinstance(instances.gt_boxes, Boxes)
    return {"image": torch.randint(0, 256, (3, h, w), dtype=torch.uint8), "instances": instances}


def make_step(model: Any, batch: list[dict[str, Any]], half: bool) -> Callable[[], float]:
    """One step; returns its mask loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)

    def step() -> float:
        torch.manual_seed(2)  # the positives that get a mask loss are drawn
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return float(losses["loss_mask"])  # waits for the device

    return step


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1216), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    batch = [entry(*arguments.size) for _ in range(2)]
    variants = {
        "reference fp32": ("reference", False, False),
        "auto fp32": ("auto", False, False),
        "auto fp32, channels last": ("auto", True, False),
        "auto bf16, channels last": ("auto", True, True),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    losses: dict[str, float] = {}
    for name, (backend, channels_last, half) in variants.items():
        step = make_step(build(backend, arguments.device, channels_last), batch, half)
        losses[name] = step()  # also warms it up
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["reference fp32"])
    print(f"2 images of {arguments.size[0]} x {arguments.size[1]}, {arguments.device}")
    print(f"{'':26}{'median s':>10}{'min to max s':>18}{'ratio':>8}{'loss_mask':>12}")
    for name, taken in times.items():
        middle, spread = statistics.median(taken), f"{min(taken):.3f} to {max(taken):.3f}"
        print(f"{name:26}{middle:10.3f}{spread:>18}{base / middle:8.2f}{losses[name]:12.6f}")


if __name__ == "__main__":
    main()
