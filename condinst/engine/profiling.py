"""Where the time in a step goes."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.engine import HookBase
from torch.profiler import ProfilerActivity, profile

from condinst.engine.trainer import Trainer

TRACE = "trace.json"
_TABLE = "profile.txt"
_LOGGER = logging.getLogger(__name__)


class ProfileHook(HookBase):
    """Records a few steps in ``trace.json`` (chrome://tracing, Perfetto) and ``profile.txt``.

    Args:
        first: the first step to record, counted from the start of the session; those before it
            warm up.
        count: how many steps.
    """

    trainer: Trainer

    def __init__(self, first: int = 2, count: int = 4) -> None:
        self.first = first
        self.count = count
        self._profile: Any = None

    def before_step(self) -> None:
        """Start at the first step to record."""
        if self.trainer.iter - self.trainer.start_iter == self.first:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=activities, record_shapes=True, profile_memory=True)
            self._profile.start()

    def after_step(self) -> None:
        """Stop after the last step to record."""
        if self.trainer.iter - self.trainer.start_iter + 1 == self.first + self.count:
            self._write()

    def after_train(self) -> None:
        """Write the recording of a session that ended early."""
        self._write()

    def _write(self) -> None:
        if self._profile is None:
            return
        recorded, self._profile = self._profile, None
        recorded.stop()
        folder = self.trainer.output_dir
        recorded.export_chrome_trace(str(folder / TRACE))
        key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=key, row_limit=30)
        (folder / _TABLE).write_text(table + "\n")
        _LOGGER.warning(
            "profile in %s: open %s in chrome://tracing or ui.perfetto.dev", folder, TRACE
        )
