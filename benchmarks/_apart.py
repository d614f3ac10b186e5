"""Functions in a process of their own, and what they take there.

A process is forked before anything was computed: the first call's peak of resident memory is the
system's own figure, not mixed with what another way left behind, and one that dies takes no other
with it.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from condinst.errors import UserError
from condinst.timing import in_turns

Way = Callable[[], Callable[[], object]]  # makes its inputs, and gives what is to be measured


class Failed(RuntimeError):
    """A process ended early; says why."""


class Measured(NamedTuple):
    """What a `Row` says of a way: seconds of each repetition, peak in bytes (None: not known)."""

    seconds: list[float]
    peak: int | None


def apart(function: Callable[..., Iterable[Any]], *given: Any) -> Iterator[Any]:
    """What a function yields, as it comes, in a fork of its own.

    Raises:
        Failed: it raised, or its process was killed.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(ours, theirs, function, given))
    child.start()
    theirs.close()
    try:
        while True:
            try:
                kind, value = ours.recv()
            except EOFError:
                child.join()
                raise Failed(f"its process ended with status {child.exitcode}") from None
            if kind == "found":
                yield value
            elif kind == "failed":
                raise Failed(value)
            else:
                return
    finally:
        ours.close()
        child.join(timeout=1)
        if child.is_alive():
            child.terminate()
            child.join()


def measure(way: Way, repeats: int) -> Measured:
    """Runs a way in a fork: once for its peak, then ``repeats`` times for its time."""
    (found,) = apart(_measured, way, repeats)
    return found


def restart_peak() -> int | None:
    """Resident bytes now; the peak is counted again from here. None where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return memory("status", "VmRSS")
    except OSError:
        return None


def peak_since(before: int | None) -> int | None:
    """Bytes at the peak beyond those that `restart_peak` gave."""
    return None if before is None else max(memory("status", "VmHWM") - before, 0)


def memory(file: str, *keys: str) -> int:
    """Bytes of this process under some keys of a file of /proc."""
    found = 0
    for line in Path("/proc/self", file).read_text().splitlines():
        key, _, rest = line.partition(":")
        found += int(rest.split()[0]) * 1024 if key in keys else 0
    return found


def _work(ours: Any, theirs: Any, function: Callable[..., Iterable[Any]], given: Any) -> None:
    ours.close()  # or else this process would not notice that nobody listens
    try:
        for value in function(*given):
            theirs.send(("found", value))
        theirs.send(("done", None))
    except UserError as error:
        theirs.send(("failed", str(error)))
    except Exception as error:
        traceback.print_exc()
        theirs.send(
            ("failed", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        )


def _measured(way: Way, repeats: int) -> Iterator[Measured]:
    call = way()
    before = restart_peak()
    call()
    peak = peak_since(before)
    yield Measured(in_turns({"": call}, repeats)[""], peak)
