"""How many images a second do one and two processes train on a CPU?

`python -m benchmarks.scaling` times the same step (forward, backward, SGD; the sample's recipe, the
same images) in one process with one thread, in one with two, and in two with one thread each, which
exchange gradients by gloo. The ways take turns, so that a busy machine hits all alike; the ratio is
to one process with one thread. The loss of the first step shows that
all take the same one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from detectron2.modeling import build_model
from detectron2.utils import comm

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


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 160), metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=8, help="a step, over all processes")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        for _ in range(given.rounds):
            for name, (processes, threads) in WAYS.items():
                args = (threads, tuple(given.size), given.images, given.steps, report)
                launch(work, args, num_processes=processes)
                seconds, losses[name] = json.loads(report.read_text())
                times[name] += seconds
    base = statistics.median(times["1 process, 1 thread"])
    print(f"{given.images} images of {given.size[0]} x {given.size[1]} a step")
    print(f"{'':28}{'images/s':>10}{'min to max':>16}{'ratio':>8}{'loss':>12}")
    for name, taken in times.items():
        middle = statistics.median(taken)
        spread = f"{given.images / max(taken):.1f} to {given.images / min(taken):.1f}"
        rate = given.images / middle
        print(f"{name:28}{rate:10.2f}{spread:>16}{base / middle:8.2f}{losses[name]:12.6f}")


if __name__ == "__main__":
    main()
