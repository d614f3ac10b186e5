"""Does a training that is killed again and again end with the weights of one that is not?

`python -m benchmarks.kills_train [--kills 20]` trains a small model in one and in two processes and
kills it (SIGKILL) at random moments: between steps, while a checkpoint is half written, while it
evaluates; with two processes at times one of them alone, the other must then end by itself. After
each kill the same training is started again. It prints a row for each kind of kill and whether
the weights are equal to the bit; it ends with status 1 if any are not.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from rich.console import Console
from rich.table import Table
from torch import nn

from condinst.config import get_cfg
from condinst.engine import EvaluationHook, TrainResult, launch, train
from tests.condinst.engine.toy import register_toy_data, toy_mapper
from tests.condinst.engine.workers import free_port, start_worker

PHASES = ("step", "saving", "evaluating")
STEPS_A_KILL = 20
_HALF_WRITTEN = 0.04  # seconds


def config(folder: Path, steps: int) -> CfgNode:
    """A training of a model with batch norm and dropout, with a moving average."""
    register_toy_data()
    cfg = get_cfg()
    cfg.TOY_FAIL_AT = 0
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "ToyDetector", "cpu", ""
    cfg.SEED, cfg.OUTPUT_DIR, cfg.DATASETS.TRAIN = 3, str(folder), ("toy_train",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.EMA = 4, steps, 0.9
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 3, (), 3
    return cfg


class Pace(HookBase):
    """Marks where a worker is, and leaves time to kill it there."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def before_step(self) -> None:
        """Mark, and wait a little."""
        mark(self.marker, "step")
        time.sleep(0.01)


def mark(marker: Path, phase: str) -> None:
    """Only the first process tells."""
    if comm.is_main_process():
        marker.write_text(phase)


def work(folder: Path, steps: int) -> None:
    """Train in this worker, slowly where the kills should hit."""
    marker, real = folder.with_suffix(".phase"), torch.save

    def slow_save(state: Any, file: Any, **options: Any) -> None:
        if isinstance(file, io.BytesIO):  # what workers send each other
            real(state, file, **options)
            return
        buffer = io.BytesIO()
        real(state, buffer)
        content = buffer.getvalue()
        file.write(content[: len(content) // 2])
        file.flush()
        mark(marker, "saving")
        time.sleep(_HALF_WRITTEN)
        file.write(content[len(content) // 2 :])

    def evaluate(model: nn.Module) -> dict[str, float | None]:
        mark(marker, "evaluating")
        time.sleep(_HALF_WRITTEN)
        return {"segm/AP": float(model.state_dict()["conv.weight"].sum())}

    torch.save = slow_save
    hooks = [EvaluationHook(4, evaluate), Pace(marker)]
    cfg = config(folder, steps)
    launch(lambda: train(cfg, mapper=toy_mapper, hooks=hooks, resume=True))


def start(folder: Path, processes: int, steps: int) -> list[int]:
    """Process ids of the workers of one life."""
    folder.with_suffix(".phase").unlink(missing_ok=True)
    port = free_port()
    return [
        start_worker(
            rank, processes, port, lambda: work(folder, steps), folder.with_suffix(f".{rank}.log")
        )
        for rank in range(processes)
    ]


def alive(pid: int) -> bool:
    """Whether a child still runs; it is reaped if not."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def wait(pids: list[int], seconds: float = 120.0) -> None:
    """Wait until all workers have ended.

    Raises:
        TimeoutError: they hang.
    """
    end = time.monotonic() + seconds
    while [pid for pid in pids if alive(pid)]:
        if time.monotonic() > end:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"workers hang for {seconds} s")
        time.sleep(0.01)


def kill_once(folder: Path, pids: list[int], phase: str, rng: random.Random) -> str:
    """Kill in a phase; what was done, empty if the training was faster."""
    marker, inside = folder.with_suffix(".phase"), False
    visits = rng.randint(1, 2)
    while visits:
        if not alive(pids[0]):
            wait(pids)
            return ""
        here = marker.exists() and marker.read_text() == phase
        visits -= here and not inside
        inside = here
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    targets = [rng.choice(pids)] if len(pids) > 1 and rng.random() < 0.4 else pids
    for pid in targets:
        os.kill(pid, signal.SIGKILL)
    wait(pids)
    return phase if targets is pids else f"{phase}, one of two"


def survive(root: Path, processes: int, kills: int, rng: random.Random) -> tuple[Counter, bool]:
    """Kill a training so often, let it end, and compare it with one that was left alone."""
    steps = STEPS_A_KILL * kills
    whole, cut = root / f"whole{processes}", root / f"cut{processes}"
    wait(start(whole, processes, steps))
    done: Counter[str] = Counter()
    phases = itertools.cycle(PHASES)
    while done.total() < kills:
        what = kill_once(cut, start(cut, processes, steps), next(phases), rng)
        if not what:
            break
        done[what] += 1
    wait(start(cut, processes, steps))
    return done, same_files(whole, cut)


def same_files(whole: Path, cut: Path) -> bool:
    """Whether all weights are equal to the bit and both trainings ended."""
    if TrainResult.load(whole) is None or TrainResult.load(cut) is None:
        return False
    for name in ("model.pth", "model_raw.pth", "model_best.pth"):
        a, b = (torch.load(folder / name, weights_only=True)["model"] for folder in (whole, cut))
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return True


def main() -> None:
    """Kills and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("processes", "killed while", "kills", "weights equal to the bit")
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for processes in (1, 2):
            rng = random.Random(args.seed)
            done, equal = survive(Path(scratch), processes, args.kills, rng)
            good = good and equal and done.total() == args.kills
            for what, count in sorted(done.items()):
                table.add_row(str(processes), what, str(count), "")
            table.add_row(str(processes), "all", str(done.total()), "yes" if equal else "NO")
    Console().print(table)
    sys.exit(not good)


if __name__ == "__main__":
    main()
