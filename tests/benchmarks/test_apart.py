"""Work in a process of its own; each forks, but computes nothing with torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from benchmarks._apart import Failed, apart
from condinst.errors import UserError
from condinst.timing import in_turns


def counted(last: int) -> Iterator[int]:
    yield from range(last)


def raises(error: Exception) -> Iterator[str]:
    yield "before"
    raise error


def killed() -> Iterator[str]:
    yield "before"
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_found_comes_in_order_and_leaves_no_process() -> None:
    assert list(apart(counted, 3)) == [0, 1, 2]
    assert list(apart(counted, 0)) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no such instruction\nand more"), "RuntimeError: no such instruction"),
        (UserError("size is 0: give 1"), "size is 0: give 1"),
    ],
)
def test_a_failure_comes_after_what_was_found(error: Exception, words: str) -> None:
    found = apart(raises, error)
    assert next(found) == "before"
    with pytest.raises(Failed, match=f"^{words}$"):
        next(found)


def test_a_process_that_is_killed_is_told() -> None:
    found = apart(killed)
    assert next(found) == "before"
    with pytest.raises(Failed, match="ended with status -9"):
        next(found)


def test_turns() -> None:
    order: list[str] = []
    taken = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}
