"""A training's checkpoints in Ray's storage, from which any machine can resume."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from condinst import engine
from condinst.engine.state import Checkpoints

BEST = "model_best.pth"
RESULT = ("result.json", "model.pth", "model_raw.pth")
_KEPT = ("curve.csv", "config.yaml", "environment.json", "origin.json", "parts.json")


class CheckpointStore(HookBase):
    """Sends each checkpoint to Ray's storage, in all workers at the same step.

    Args:
        folder: of the run.
        period: in steps.
    """

    trainer: engine.Trainer

    def __init__(self, folder: Path, period: int) -> None:
        self.folder = folder
        self.period = period

    def before_step(self) -> None:
        """Send what the previous step has saved."""
        done = self.trainer.iter
        if done > self.trainer.start_iter and done % self.period == 0:
            self.send(BEST)

    @staticmethod
    def tell_idle(*, more: bool) -> None:
        """Tell idle workers whether a checkpoint or the end comes next."""
        from ray.train.collective import broadcast_from_rank_zero

        broadcast_from_rank_zero(more)

    def send(self, *names: str) -> None:
        """Store the newest checkpoint and the files that go with it."""
        from ray import train as ray_train

        self.tell_idle(more=True)
        if not comm.is_main_process():
            ray_train.report({})
            return
        newest = Checkpoints(self.folder / "checkpoints").paths()[:1]
        with tempfile.TemporaryDirectory() as scratch:
            for source in (*newest, *(self.folder / name for name in (*_KEPT, *names))):
                if source.exists():
                    target = Path(scratch) / source.relative_to(self.folder)
                    target.parent.mkdir(exist_ok=True)
                    shutil.copy2(source, target)
            ray_train.report({}, checkpoint=ray_train.Checkpoint.from_directory(scratch))

    def fetch(self) -> None:
        """Fetch the stored checkpoint if this machine has none or an older one."""
        from ray import train as ray_train

        stored = ray_train.get_checkpoint()
        if stored is not None and comm.is_main_process():
            take(stored, self.folder)
        comm.synchronize()


def take(stored: Any, folder: Path) -> None:
    """Copy a stored checkpoint into the run's folder unless that is further along."""
    with stored.as_directory() as found:
        theirs, ours = _progress(Path(found)), _progress(folder)
        if theirs > ours:
            shutil.copytree(found, folder, dirs_exist_ok=True)


def _progress(folder: Path) -> tuple[str, bool]:
    """Sort key for states of one training: how far along they are."""
    newest = Checkpoints(folder / "checkpoints").paths()[:1]
    return (newest[0].name if newest else "", (folder / "result.json").exists())
