"""Several workers in a second: forks of the test's process, described as torchrun would."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_worker(
    rank: int, size: int, port: int, main: Callable[[], None], log: Path, **environment: str
) -> int:
    """Fork one worker that runs `main`; what it raises is written to the file. Its process id."""
    described = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **environment,
    }
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        os.environ.update(described)
        main()
        code = 0
    except BaseException as error:
        log.write_text(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    finally:
        os._exit(code)


def wait_for(pids: list[int], seconds: float = 240.0) -> None:
    """Wait for all; workers that are not done in time are killed and fail the test."""
    end = time.monotonic() + seconds
    left = list(pids)
    while left:
        left = [pid for pid in left if not os.waitpid(pid, os.WNOHANG)[0]]
        if left and time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise AssertionError(f"workers hang after {seconds} s")
        time.sleep(0.02)


def run_workers(
    main: Callable[[], None],
    folder: Path,
    size: int = 2,
    *,
    each: Mapping[int, Mapping[str, str]] | None = None,
    seconds: float = 240.0,
) -> list[str]:
    """Run `main` in workers and wait; the first lines of what each raised, empty for success.

    Args:
        main: no need to be importable.
        folder: for their messages.
        size: how many workers.
        each: changes to the environment of single workers.
        seconds: after which they count as hanging.
    """
    port, logs = free_port(), [folder / f"worker{rank}.log" for rank in range(size)]
    for log in logs:
        log.unlink(missing_ok=True)
    pids = [
        start_worker(rank, size, port, main, logs[rank], **(each or {}).get(rank, {}))
        for rank in range(size)
    ]
    wait_for(pids, seconds)
    return [log.read_text() if log.exists() else "" for log in logs]
