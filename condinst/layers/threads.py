"""Compiled loops in several threads: they release the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def spans(count: int, size: int) -> list[tuple[int, int]]:
    """Ends of pieces of at most ``size``."""
    return [(i, min(i + size, count)) for i in range(0, count, size)]


def in_threads(work: Callable[[tuple[int, int]], T], spans: list[tuple[int, int]]) -> list[T]:
    """The results in order; as many threads as torch uses, and none for a single span."""
    threads = min(torch.get_num_threads(), len(spans))
    if threads <= 1:
        return [work(span) for span in spans]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, spans))
