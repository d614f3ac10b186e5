"""A time budget for one session of a training."""

from __future__ import annotations

import time

from detectron2.engine import HookBase
from detectron2.utils import comm

from condinst.engine.trainer import Trainer
from condinst.errors import UserError

TIME_UP = "time"


class TimeUpError(UserError):
    """The time budget is spent; the state is saved."""


class TimeLimit(HookBase):
    """Stops after a step, with a checkpoint, when the session's time is spent.

    Args:
        seconds: counted from the start of the steps.
    """

    trainer: Trainer

    def __init__(self, seconds: float) -> None:
        assert seconds > 0, seconds
        self.seconds = seconds
        self._end = float("inf")

    def before_train(self) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    def after_step(self) -> None:
        """Stop when time is up; the first process decides for all."""
        up = comm.all_gather(time.monotonic() >= self._end)[0]
        if up and self.trainer.iter + 1 < self.trainer.max_iter and not self.trainer.stopping:
            self.trainer.stopping = TIME_UP
