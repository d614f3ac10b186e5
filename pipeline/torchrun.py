"""Running under torchrun, which restarts whatever fails, even if it fails the same way again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from condinst.errors import PassingError, UserError


def end_for_good(error: UserError) -> None:
    """Stop the torchrun that started this process, if it would retry after a user error.

    torchrun has no exit status for "do not restart": a worker can only end its agent, with the
    signal that also ends it when a job is cancelled. Errors that a restart may fix are left to it.

    Args:
        error: what ends the worker; it has already been shown.
    """
    made, most = (
        int(os.environ.get(f"TORCHELASTIC_{name}", "0"))
        for name in ("RESTART_COUNT", "MAX_RESTARTS")
    )
    agent = os.getppid()
    if made < most and not isinstance(error, PassingError) and _is_torchrun(agent):
        os.kill(agent, signal.SIGTERM)


def _is_torchrun(pid: int) -> bool:
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return any(word == "torch.distributed.run" or Path(word).name == "torchrun" for word in words)
