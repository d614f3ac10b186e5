"""One process or several, on one machine or more: detectron2's ``launch`` with plain errors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from detectron2.engine import launch as detectron2_launch

from condinst.errors import UserError


def check_gpus(wanted: int) -> None:
    """Refuse to start on more GPUs than there are.

    Raises:
        UserError: fewer than ``wanted`` GPUs are visible.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted > found:
        raise UserError(
            f"--num-gpus {wanted} (train.num_gpus): this machine shows {found} CUDA "
            f"device{'' if found == 1 else 's'}; use --num-gpus {found}"
            + ("" if found else ", which trains on the CPU (train.num_processes for several)")
        )


def launch(
    main: Callable[..., None],
    args: tuple[Any, ...] = (),
    *,
    num_gpus: int = 0,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Call ``main(*args)`` in as many processes as asked for.

    Args:
        main: importable by name; leaves its result on disk.
        args: picklable.
        num_gpus: processes on this machine, one a GPU; 0 for the CPU.
        num_processes: processes on this machine when ``num_gpus`` is 0.
        num_machines: how many machines run this same command.
        machine_rank: the number of this one, from 0.
        dist_url: where the processes meet, ``tcp://host:port``; "auto" on one machine.

    Raises:
        UserError: not enough GPUs, no address for several machines, or what a process raised.
    """
    check_gpus(num_gpus)
    if num_machines > 1 and dist_url == "auto":
        raise UserError(
            f"--num-machines {num_machines} needs --dist-url tcp://<address of machine 0>:<port>, "
            "the same on all machines"
        )
    if not 0 <= machine_rank < num_machines:
        raise UserError(
            f"--machine-rank {machine_rank} must be from 0 to {num_machines - 1} "
            f"(--num-machines {num_machines})"
        )
    processes = num_gpus or num_processes
    if processes * num_machines == 1:
        use_all_cores()
        main(*args)
        return
    with tempfile.TemporaryDirectory() as folder, _environment(gpu=num_gpus > 0):
        report = Path(folder) / "error.txt"
        try:
            detectron2_launch(
                _guarded,
                processes,
                num_machines=num_machines,
                machine_rank=machine_rank,
                dist_url=dist_url,
                args=(main, args, report),
            )
        except mp.ProcessExitedException as error:
            raise UserError(
                f"a training process died: {error}; was there enough memory?"
            ) from error
        except mp.ProcessRaisedException as error:
            if report.exists():
                raise UserError(report.read_text()) from error
            raise


def use_all_cores() -> None:
    """Let the only process compute on every core it may use, unless OMP_NUM_THREADS says less."""
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def _guarded(main: Callable[..., None], args: tuple[Any, ...], report: Path) -> None:
    """Run in a child process; a user's error is left where the parent finds its text."""
    try:
        main(*args)
    except UserError as error:
        if not report.exists():
            report.write_text(str(error))
        raise


@contextmanager
def _environment(gpu: bool) -> Iterator[None]:
    """Settings that child processes inherit: one thread each; CPU processes see no GPU."""
    wanted = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": "1"}
    if not gpu and torch.cuda.is_available():
        # detectron2's launch takes NCCL and counts devices wherever it sees one
        raise UserError(
            "several CPU processes on a machine with a GPU: set CUDA_VISIBLE_DEVICES= (empty) "
            "for this command, or use --num-gpus"
        )
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key in wanted:
            del os.environ[key]
