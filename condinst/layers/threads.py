"""How many threads compute; runs compiled loops, which release the GIL, in several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


@contextlib.contextmanager
def limited(count: int) -> Iterator[None]:
    """Limit torch and the loops here to this many threads, on which the last bits of sums depend.

    Args:
        count: of threads; 0 changes nothing.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spans(count: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of chunks of at most ``size``."""
    return [(i, min(i + size, count)) for i in range(0, count, size)]


def in_threads(work: Callable[[tuple[int, int]], T], spans: list[tuple[int, int]]) -> list[T]:
    """The results in order; as many threads as torch uses, and none for a single span."""
    threads = min(torch.get_num_threads(), len(spans))
    if threads <= 1:
        return [work(span) for span in spans]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, spans))
