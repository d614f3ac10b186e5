"""How long calls take beside each other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping


def in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, seconds: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of each way, called in turns so that a busy moment slows all of them.

    Args:
        ways: name -> what to time.
        rounds: at most so many.
        seconds: after which no further round begins; there is one in any case.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + seconds
    for number in range(rounds):
        if number and time.perf_counter() > until:
            break
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return taken
