"""Does a training on Ray Train whose worker is killed end with the weights of one that is not?

`OMP_NUM_THREADS=1 python -m benchmarks.ray_kill` draws a few images, trains a small CondInst by
two processes (`train.launcher: processes`), and then by two workers of Ray, one of which it kills
(SIGKILL) after a checkpoint. Ray starts both again. It prints whether all weights and the curve's
losses are equal to the bit, and ends with status 1 if not.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

from pipeline.acquire.stage import run as acquire
from pipeline.params import Params, Sample, as_dict, load_params, parse_params
from pipeline.prepare import stage as prepare
from pipeline.train import stage as train

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.FCOS.NUM_CLS_CONVS": 1,
    "MODEL.FCOS.NUM_BOX_CONVS": 1,
    "INPUT.MIN_SIZE_TRAIN": [64],
}


def small(launcher: str, steps: int) -> Params:
    """The sample's recipe at the size of a thumbnail, in two processes."""
    params = load_params(ROOT / "profiles" / "sample.yaml")
    changed = dataclasses.replace(
        params,
        dataset=dataclasses.replace(
            params.dataset, sample=Sample(seed=7, train_images=12, val_images=4)
        ),
        model=dataclasses.replace(params.model, overrides=SMALL),
        train=dataclasses.replace(
            params.train, launcher=launcher, steps=steps, images_per_step=4, num_processes=2,
            warmup_steps=1, checkpoint_period=5, workers=0, ema=0.9,
        ),
        tracking=dataclasses.replace(params.tracking, enabled=False),
    )  # fmt: skip
    return parse_params(as_dict(changed))


class Killer(threading.Thread):
    """Kills one of Ray's two workers once they have left a checkpoint."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.killed = ""

    def run(self) -> None:
        """Wait for the checkpoint, then kill."""
        while not list(Path(".runs").glob("*/checkpoints/step_*.pth")):
            time.sleep(0.1)
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            if "RayTrainWorker" in " ".join(child.cmdline())
        ]
        newest = max(path.stem for path in Path(".runs").glob("*/checkpoints/step_*.pth"))
        os.kill(workers[-1].pid, signal.SIGKILL)
        self.killed = f"one of {len(workers)} workers killed after {newest}"


def losses() -> list[list[str]]:
    """The curve's losses, as text."""
    with Path("outputs/train/curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[value for key, value in row.items() if "loss" in key] for row in rows]


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("configs").symlink_to(ROOT / "configs")
        acquire(small("processes", steps))
        prepare.run(small("processes", steps))
        killer, results = Killer(), []
        for launcher in ("processes", "ray"):
            shutil.rmtree(".runs", ignore_errors=True)  # the same hash: it would be used again
            if launcher == "ray":
                killer.start()
            began = time.monotonic()
            train.run(small(launcher, steps))
            weights = torch.load("outputs/train/model.pth", weights_only=True)["model"]
            results.append((weights, losses(), time.monotonic() - began))
        os.chdir(ROOT)
    (plain, curve, plain_s), (survived, curve_again, ray_s) = results
    assert plain.keys() == survived.keys()
    equal = all(torch.equal(value, survived[key]) for key, value in plain.items())
    print(f"processes: {steps} steps in {plain_s:.0f} s")
    print(f"ray:       {steps} steps in {ray_s:.0f} s, {killer.killed or 'nobody was killed'}")
    print(f"{len(plain)} tensors equal to the bit: {'yes' if equal else 'NO'}")
    print(f"{len(curve)} rows of losses equal: {'yes' if curve == curve_again else 'NO'}")
    sys.exit(not (equal and curve == curve_again and killer.killed))


if __name__ == "__main__":
    main()
