"""One process or several, on one machine or more, started by us or by torchrun."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.multiprocessing as mp

from condinst.cores import available_cores
from condinst.engine.rendezvous import Worker, join, leave, torchrun_worker
from condinst.errors import PassingError, UserError

# What gloo and NCCL report when the other end of a connection is gone.
_LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|gloo|nccl|timed out waiting", re.IGNORECASE
)


def check_gpus(wanted: int) -> None:
    """Refuse to start on more GPUs than there are.

    Raises:
        UserError: fewer than ``wanted`` GPUs are visible.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted > found:
        raise UserError(
            f"--num-gpus {wanted} (train.num_gpus): this machine has {found} CUDA "
            f"device{'' if found == 1 else 's'}; use --num-gpus {found}"
            + ("" if found else ", which trains on the CPU (train.num_processes for several)")
        )


def count_workers(num_gpus: int, num_processes: int = 1, num_machines: int = 1) -> int:
    """How many processes :func:`launch` starts in all; under torchrun, its number."""
    given = torchrun_worker()
    return given.world_size if given else (num_gpus or num_processes) * num_machines


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
    """Call ``main(*args)`` in the requested number of processes.

    A process that torchrun started (RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set) calls it
    directly, as one of torchrun's workers.

    Args:
        main: importable by name; leaves its result on disk.
        args: picklable.
        num_gpus: processes on this machine, one per GPU; 0 for the CPU.
        num_processes: processes on this machine when ``num_gpus`` is 0.
        num_machines: how many machines run this same command.
        machine_rank: the number of this one, from 0.
        dist_url: where the processes meet, ``tcp://host:port``; "auto" on one machine.

    Raises:
        UserError: there are not enough GPUs, workers do not meet, one died, or one raised it.
    """
    worker = torchrun_worker()
    if worker is not None and worker.world_size > 1:
        check_gpus(worker.local_size if num_gpus else 0)
        with _plain_errors():
            _work(worker, num_gpus > 0, main, args)
        return
    check_gpus(num_gpus)
    _check_machines(num_machines, machine_rank, dist_url)
    processes = num_gpus or num_processes
    if processes * num_machines == 1:
        use_all_cores()
        main(*args)
        return
    host, port = _meeting_point(dist_url)
    workers = [
        Worker(machine_rank * processes + i, num_machines * processes, i, processes, host, port)
        for i in range(processes)
    ]
    with tempfile.TemporaryDirectory() as folder, _one_thread_each():
        report = Path(folder) / "error.txt"
        try:
            mp.start_processes(
                _child,
                (workers, num_gpus > 0, main, args, report),
                nprocs=processes,
                start_method="spawn",
            )
        except mp.ProcessExitedException as error:
            raise UserError(
                f"a training process died: {error}; was there enough memory? The others were "
                "stopped; the same command resumes from the last checkpoint"
            ) from error
        except mp.ProcessRaisedException as error:
            if report.exists():
                raise UserError(report.read_text()) from error
            raise


def use_all_cores() -> None:
    """Let a single process use every core it may, unless OMP_NUM_THREADS says less."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cores())


def _check_machines(num_machines: int, machine_rank: int, dist_url: str) -> None:
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


def _meeting_point(dist_url: str) -> tuple[str, int]:
    if dist_url == "auto":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return "127.0.0.1", probe.getsockname()[1]
    try:
        parts = urlsplit(dist_url)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass  # a port that is not a number
    raise UserError(f"--dist-url {dist_url!r} must be tcp://HOST:PORT, or auto on one machine")


def _child(
    index: int,
    workers: list[Worker],
    gpu: bool,
    main: Callable[..., None],
    args: tuple[Any, ...],
    report: Path,
) -> None:
    """Run in a child process; the text of a UserError is left for the parent."""
    try:
        with _plain_errors():
            _work(workers[index], gpu, main, args)
    except UserError as error:
        if not report.exists():
            report.write_text(str(error))
        raise


def _work(worker: Worker, gpu: bool, main: Callable[..., None], args: tuple[Any, ...]) -> None:
    join(worker, gpu=gpu)
    main(*args)
    leave()


def is_lost_connection(error: Exception) -> bool:
    """Whether the other end of a connection between workers is gone."""
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn a broken connection into a UserError."""
    try:
        yield
    except UserError:
        raise
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        first = str(error).partition("\n")[0][:200]
        raise PassingError(
            f"the connection to another worker broke ({first}): it died or its machine is gone; "
            "see its last output. The same command resumes from the last checkpoint"
        ) from error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """One thread per child process, which inherits the setting, since they share the cores."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
