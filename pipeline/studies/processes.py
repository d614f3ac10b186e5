"""Jobs side by side in processes of this machine, forked from one that has imported all they need.

Each job has a fresh process, so no state passes from one to the next, and none pays the imports.
A job whose process dies starts again. Processes end with the one that asked for them, however that
ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

_PRELOAD = ["pipeline.studies.ablate", "pipeline.evaluate.stage", "mlflow"]
_QUIET = "ignore::FutureWarning,ignore::DeprecationWarning"  # of the libraries, when imported
_TRIES = 3  # starts of a job before its death is final
_LOOK = 1.0  # seconds between two looks at the processes
_PATIENCE = 20.0  # seconds that a process gets to end by itself
_SPARE = 1.1  # of what the largest has taken must be free before another starts


class JobDied(Exception):
    """The process of a job has ended without a result, each time that it was started."""


class Crew:
    """The processes of some jobs.

    Args:
        work: called as ``work(*job)`` in a job's process; importable by name.
        jobs: picklable arguments.
        logs: a file for each job, which gets what it prints.
        at_once: jobs that may run at a time.
        gpus: that each job takes; 0 for none.
        settled: whether a running job, by its number, takes as much memory as it ever will.
    """

    def __init__(
        self,
        work: Callable[..., Any],
        jobs: Sequence[tuple[Any, ...]],
        logs: Sequence[Path],
        *,
        at_once: int,
        gpus: int = 0,
        settled: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.work, self.jobs, self.logs = work, jobs, logs
        self.at_once, self.gpus, self.settled = at_once, gpus, settled
        self.running: dict[int, _Running] = {}
        self.largest = 0  # bytes that one job has taken
        self.held_back = ""  # why fewer run than may
        self._waiting = deque(range(len(jobs)))
        self._starts: Counter[int] = Counter()
        self._measured = False  # whether one has taken all the memory it needs

    def results(self, tick: Callable[[], None] = lambda: None) -> Iterator[tuple[int, Any]]:
        """Run all jobs.

        Args:
            tick: called about once a second.

        Yields:
            Number of a job, and its result or `JobDied`, as they come.
        """
        try:
            while self._waiting or self.running:
                while self._waiting and self._may_start():
                    self._start(self._waiting.popleft())
                ends = [one.receiver for one in self.running.values()]
                connection.wait(ends, timeout=_LOOK)
                for number in [*self.running]:
                    yield from self._ended(number)
                self._weigh()
                tick()
        finally:
            _end([one.process for one in self.running.values()])

    def _may_start(self) -> bool:
        if len(self.running) in (0, self.at_once):
            return not self.running
        growing = sum(not self.settled(number) for number in self.running)
        if growing and not self._measured:
            return False
        free = psutil.virtual_memory().available
        enough = free >= _SPARE * self.largest * (growing + 1)
        if not enough:
            self.held_back = (
                f"{len(self.running)} instead of {self.at_once} at a time: one takes "
                f"{self.largest / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
            )
        return enough

    def _start(self, number: int) -> None:
        self._starts[number] += 1
        receiver, sender = _context().Pipe(duplex=False)
        taken = {gpu for one in self.running.values() for gpu in one.gpus}
        gpus = [gpu for gpu in range(self.at_once * self.gpus) if gpu not in taken][: self.gpus]
        log = self.logs[number].resolve()
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = (sender, self.work, self.jobs[number], str(log), gpus if self.gpus else None)
        process = _context().Process(target=_job, args=arguments)
        process.start()
        sender.close()  # so that the end of the process is the end of the pipe
        self.running[number] = _Running(process, receiver, gpus)

    def _ended(self, number: int) -> Iterator[tuple[int, Any]]:
        one = self.running[number]
        if not one.receiver.poll():
            return
        try:
            found = one.receiver.recv()
        except EOFError:
            one.process.join()
            found = JobDied(_cause(one.process.exitcode, self.logs[number]))
        one.process.join()
        del self.running[number]
        self._measured, self.held_back = True, ""
        if isinstance(found, JobDied) and self._starts[number] < _TRIES:
            self._waiting.appendleft(number)
        else:
            yield number, found

    def _weigh(self) -> None:
        for number, one in self.running.items():
            self.largest = max(self.largest, _memory(one.process.pid or 0))
            self._measured = self._measured or self.settled(number)


class _Running:
    def __init__(
        self, process: BaseProcess, receiver: connection.Connection, gpus: Sequence[int]
    ) -> None:
        self.process, self.receiver, self.gpus = process, receiver, gpus


def _context() -> Any:
    os.environ.setdefault("PYTHONWARNINGS", _QUIET)  # what the warm process says breaks a display
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _job(
    sender: connection.Connection,
    work: Callable[..., Any],
    job: tuple[Any, ...],
    log: str,
    gpus: Sequence[int] | None,
) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    sender.send(work(*job))


def _follow(sentinel: int) -> None:
    """End when the process that waits for the result has ended."""
    connection.wait([sentinel])
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes, kindly at first: a training that hears of it goes on from where it was."""
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal_number)
        until = time.monotonic() + _PATIENCE
        for process in alive:
            process.join(max(0.0, until - time.monotonic()))


def _memory(pid: int) -> int:
    """Bytes that a process and its children share with no other."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().uss
    return total


def _cause(status: int | None, log: Path) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        why = "; the system kills so when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{why} (see {log})"
    return f"its process ended with status {status} (see {log})"
