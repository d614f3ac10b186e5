"""Debug runs, which publish nothing: everything once, few images, profile, anomalies."""

from __future__ import annotations

import dataclasses
import shutil
import sys

from condinst import engine
from pipeline import runs
from pipeline.params import Params
from pipeline.recipe import PreparedData, resolve
from pipeline.train.job import Job
from pipeline.train.options import TrainOptions
from pipeline.train.start import start_job

FOLDER = runs.RUNS / "debug"
_FAST_STEPS = 3
_PROFILE_STEPS = 8


def run(params: Params, options: TrainOptions) -> None:
    """Train in ``.runs/debug``, from scratch; the stage's outputs and MLflow stay untouched.

    Args:
        params: of the experiment; ``train.steps`` limits the training.
        options: what to debug.
    """
    engine.check_gpus(params.train.num_gpus)
    train, data = params.train, PreparedData.load()
    if train.launcher == "ray":
        sys.stderr.write("note: debug runs stay on this machine, without Ray\n")
        train = dataclasses.replace(train, launcher="processes", min_workers=None)
    if options.fast_dev_run:
        train = dataclasses.replace(
            train, steps=_FAST_STEPS, warmup_steps=0, checkpoint_period=1, eval_period=2
        )
    elif options.profile:
        train = dataclasses.replace(train, steps=_PROFILE_STEPS)
    recipe = resolve(dataclasses.replace(params, train=train), data)
    folder = FOLDER.resolve()
    cfg = recipe.cfg
    cfg.OUTPUT_DIR = str(folder)
    cfg.DEBUG.OVERFIT = options.overfit
    cfg.DEBUG.DETECT_ANOMALY = options.detect_anomaly
    cfg.DEBUG.PROFILE = options.profile
    cfg.SOLVER.MAX_SECONDS = options.max_seconds
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    for note in recipe.notes:
        sys.stderr.write(f"note: {note}\n")
    job = Job(cfg.dump(), data.root, train.eval_period or 0, params, data_hash=data.hash)
    start_job(job, train)
    sys.stderr.write(f"debugged: {_left(options)} in {FOLDER}; no stage's output was changed\n")


def _left(options: TrainOptions) -> str:
    names = ["curve.csv", "model.pth"]
    if options.profile:
        names = ["trace.json (open it in chrome://tracing or ui.perfetto.dev)", "profile.txt"]
    return ", ".join(names)
