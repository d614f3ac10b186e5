"""Times and peak memory of several ways to do one thing, on the same inputs, in one run.

Every way runs in a process of its own, forked before anything was computed: the first call's peak
of resident memory is the system's own figure, not mixed with what another way left behind.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

Way = Callable[[], Callable[[], object]]  # makes its inputs, and gives what is to be measured


class Measured(NamedTuple):
    """Seconds of each repetition, and bytes that the first call took at its peak."""

    seconds: list[float]
    peak: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


class Row(NamedTuple):
    """One way's figures beside those that it is compared with."""

    label: str
    way: Measured
    against: Measured | None = None
    goal: str = ""


def measure(way: Way, repeats: int = 5, threads: int = 2) -> Measured:
    """Runs a way in a fork: once for its peak, then ``repeats`` times for its time."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(theirs, way, repeats, threads))
    child.start()
    theirs.close()
    found = ours.recv()
    child.join()
    return found


def show(title: str, rows: list[Row]) -> None:
    """Prints the table in Markdown."""
    lines = []
    for label, way, against, goal in rows:
        lines.append(
            (
                label,
                time_text(way.median),
                f"{time_text(min(way.seconds))} to {time_text(max(way.seconds))}",
                f"{against.median / way.median:.1f}" if against else "",
                f"{way.peak / 1e6:.0f} MB",
                f"{way.peak / max(against.peak, 1):.2f}" if against else "",
                goal,
            )
        )
    heads = ("", "median", "fastest to slowest", "times faster", "peak extra", "of peak", "goal")
    markdown(title, heads, lines)


def markdown(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table of Markdown under its title."""
    print(f"\n**{title}**\n")
    for cells in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def time_text(seconds: float) -> str:
    """Milliseconds or seconds."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _run(pipe: multiprocessing.connection.Connection, way: Way, repeats: int, threads: int) -> None:
    torch.set_num_threads(threads)
    call = way()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    call()
    peak = _status("VmHWM") - before
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    pipe.send(Measured(seconds, max(peak, 0)))


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
