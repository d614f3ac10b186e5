"""What the jobs of test_processes do, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

calls = 0


def meet(folder: str, name: str, others: int) -> tuple[int, int, str | None]:
    """Wait until so many jobs are here; the process, its calls so far, and its GPUs."""
    global calls
    calls += 1
    print("here is", name)
    (Path(folder) / name).touch()
    until = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < others and time.monotonic() < until:
        time.sleep(0.02)
    return os.getpid(), calls, os.environ.get("CUDA_VISIBLE_DEVICES")


def die(folder: str, name: str, times: int) -> str:
    """End by a signal that often, then go on."""
    mark = Path(folder) / name
    done = len(mark.read_text()) if mark.exists() else 0
    if done < times:
        mark.write_text("x" * (done + 1))
        sys.stderr.write("about to die\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def sleep(folder: str, name: str) -> None:
    """Leave the number of the process, and stay."""
    partial = Path(folder) / f"{name}.partial"
    partial.write_text(str(os.getpid()))
    partial.rename(Path(folder) / name)
    time.sleep(600)
