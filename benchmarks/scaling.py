"""How many images a second do one and two processes train on a CPU?

The same step (forward, backward, SGD; the sample's recipe, the same images) in one process with one
thread, in one with two, and in two with one thread each, which exchange gradients by gloo. The ways
take turns, so that a busy machine hits all alike; the loss of the first step shows that all take
the same one.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.modeling import build_model
from detectron2.utils import comm

from benchmarks._rows import Row
from benchmarks.train_step import entry
from condinst.config import load_config
from condinst.engine import launch
from condinst.engine.train import distribute

RECIPE = Path(__file__).parents[1] / "configs" / "CondInst" / "sample.yaml"
WAYS = {
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
}


class Size(NamedTuple):
    """Images of a step, over all processes, and how often it is taken."""

    height: int = 128
    width: int = 160
    images: int = 8
    steps: int = 4
    rounds: int = 3


SMOKE = Size(height=32, width=32, images=4, steps=1, rounds=1)


def work(threads: int, size: tuple[int, int], images: int, steps: int, report: Path) -> None:
    """Train in this process on its share of the images; the first one reports."""
    torch.set_num_threads(threads)
    cfg = load_config(RECIPE, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    torch.manual_seed(0)
    model = build_model(cfg).train().to(memory_format=torch.channels_last)
    batch = []
    for i in range(images):
        torch.manual_seed(i)
        batch.append(entry(*size))
        batch[-1]["instances"].gt_classes %= cfg.MODEL.FCOS.NUM_CLASSES
    share = images // comm.get_world_size()
    mine = batch[comm.get_rank() * share :][:share]
    wrapped = distribute(model, cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    seconds, first = [], 0.0
    for _ in range(1 + steps):  # the first warms up
        torch.manual_seed(2)
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = sum(wrapped(mine).values())
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        first = first or loss.item()
    losses = comm.all_gather(first)
    if comm.is_main_process():
        report.write_text(json.dumps([seconds[1:], sum(losses) / len(losses)]))


def rows(size: Size) -> Iterator[Row]:
    """Seconds of a step in each way."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        for _ in range(size.rounds):
            for name, (processes, threads) in WAYS.items():
                args = (threads, size[:2], size.images, size.steps, report)
                launch(work, args, num_processes=processes)
                seconds, losses[name] = json.loads(report.read_text())
                times[name] += seconds
    table = f"The sample's step, {size.images} images of {size.height} x {size.width}"
    base = next(iter(WAYS))
    for name, taken in times.items():
        note = f"{size.images / statistics.median(taken):.1f} images/s, loss {losses[name]:.6f}"
        yield Row(table, name, taken, "" if name == base else base, note=note)
