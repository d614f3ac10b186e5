"""Starting a training: in this process, in several on this machine, or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.engine import HookBase

from condinst import engine
from condinst.cores import available_cores
from condinst.errors import UserError
from pipeline.params import Train
from pipeline.train.job import Job, load_cfg, train_job


def check_launcher(train: Train) -> None:
    """Refuse settings that cannot be started; with Ray the GPUs may be on other machines."""
    if train.launcher != "ray":
        engine.check_gpus(train.num_gpus)
        _check_threads(train)
    elif engine.torchrun_worker() is not None:
        raise UserError(
            "train.launcher: ray starts the workers itself, but this process is one of torchrun's "
            "(RANK and WORLD_SIZE are set); run `python cli.py train` once, or set it to processes"
        )


def _check_threads(train: Train) -> None:
    most = max(1, available_cores() // train.num_processes)
    if train.num_gpus == 0 and (train.threads or 0) > most:
        raise UserError(
            f"train.threads is {train.threads}, but this machine has {available_cores()} cores for "
            f"{train.num_processes} process{'' if train.num_processes == 1 else 'es'}: set it to "
            f"at most {most}, or to null"
        )


def start_job(job: Job, train: Train, hooks: Sequence[HookBase] = ()) -> None:
    """Run a training in as many processes as params ask for, started by ``train.launcher``.

    If one of several processes runs out of memory, all end and restart from the last checkpoint
    with micro-batches of half the size.

    Args:
        job: the training.
        train: section of params.yaml.
        hooks: only for a training in this process.
    """
    folder = Path(load_cfg(job.config).OUTPUT_DIR)
    start = _start_by_ray if train.launcher == "ray" else _start_processes
    while True:
        parts = engine.saved_parts(folder)
        try:
            start(job, train, hooks)
            return
        except UserError as error:
            if engine.saved_parts(folder) <= parts or engine.torchrun_worker() is not None:
                raise
            sys.stderr.write(f"{error}\n")


def _start_processes(job: Job, train: Train, hooks: Sequence[HookBase]) -> None:
    engine.launch(
        train_job,
        (job, tuple(hooks)),
        num_gpus=train.num_gpus,
        num_processes=train.num_processes,
    )


def _start_by_ray(job: Job, train: Train, hooks: Sequence[HookBase]) -> None:
    from pipeline import cluster
    from pipeline.train.on_ray import train_on_ray

    if cluster.inside():  # a study's task run by Ray: it already has its share
        sys.stderr.write(
            "note: Ray runs this training as one of many, so it starts its own processes\n"
        )
        _start_processes(job, train, hooks)
        return
    assert job.params is not None
    train_on_ray(job, train, job.params.ray, hooks)
