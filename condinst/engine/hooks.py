"""Hooks that every training has: progress, curve, checkpoints."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from detectron2.engine import HookBase
from detectron2.utils import comm

from condinst.atomic import atomic_file, write_json
from condinst.engine.meter import Row
from condinst.engine.state import Checkpoints
from condinst.engine.trainer import RowHook, Trainer

PROGRESS = "progress.json"


class CheckpointHook(HookBase):
    """Saves the whole state every ``period`` steps, after the last one and before a stop.

    All workers have it, since each counts its own figures since the last row; the first saves.

    Args:
        checkpoints: the folder to save to.
        period: in steps.
    """

    trainer: Trainer

    def __init__(self, checkpoints: Checkpoints, period: int) -> None:
        self.checkpoints = checkpoints
        self.period = period

    def after_step(self) -> None:
        """Save when due.

        Raises:
            NonFiniteStateError: the state is not finite.
        """
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter or self.trainer.stopping:
            self.trainer.check_finite(done)
            state = self.trainer.state(done)
            state["meters"] = comm.all_gather(state["meter"])
            if comm.is_main_process():
                self.checkpoints.save(state, done)


class CurveWriter(RowHook):
    """Keeps the rows of figures and writes them to a CSV file, one line per row.

    The file is written with every checkpoint, so that a resumed run continues it without gap or
    repetition.

    Args:
        path: of the CSV file; an existing one is kept up to the step that training starts from.
        period: write every this many steps.
    """

    trainer: Trainer

    def __init__(self, path: Path, period: int) -> None:
        self.path = path
        self.period = period
        self.rows: dict[int, Row] = {}

    def before_train(self) -> None:
        """Read the lines of the finished steps."""
        if self.trainer.start_iter and self.path.exists():
            with self.path.open(newline="") as file:
                for line in csv.DictReader(file):
                    row = {key: float(value) for key, value in line.items() if value}
                    if row["iteration"] <= self.trainer.start_iter:
                        self.rows[int(row["iteration"])] = row

    def on_row(self, row: Row) -> None:
        """Keep the row; rows of the same step become one line."""
        self.rows.setdefault(int(row["iteration"]), {}).update(row)

    def after_step(self) -> None:
        """Write when due."""
        if (self.trainer.iter + 1) % self.period == 0:
            self.write()

    def after_train(self) -> None:
        """Write all rows, even after a failure."""
        self.write()

    def write(self) -> None:
        """Write all rows; columns in order of first appearance."""
        columns = dict.fromkeys(key for row in self.rows.values() for key in row)
        with atomic_file(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns), lineterminator="\n")
            writer.writeheader()
            for _, row in sorted(self.rows.items()):
                writer.writerow({key: _short(value) for key, value in row.items()})


def _short(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


class ConsoleProgress(RowHook):
    """Step, loss, speed and time left: a bar on a terminal, else a line every few seconds.

    Args:
        stream: where to write; standard error by default.
        seconds_between: time between lines.
        title: what is trained.
    """

    trainer: Trainer

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        seconds_between: float = 15.0,
        title: str = "train",
    ) -> None:
        self.stream = stream or sys.stderr
        self.seconds_between = seconds_between
        self.title = title
        self._last = -1e9
        self._began = time.monotonic()
        self._bar: Any = None

    def before_train(self) -> None:
        """Start the bar, or say where the run starts."""
        start, end = self.trainer.start_iter, self.trainer.max_iter
        self._began = time.monotonic()
        if start:
            self.stream.write(f"{self.title}: resuming from step {start} of {end}\n")
        if self.stream.isatty():
            self._bar = _Bar(self.title, start, end)

    def after_step(self) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.move(self.trainer.iter + 1)

    def on_row(self, row: Row) -> None:
        """Show the row."""
        if "total_loss" not in row:
            return
        text = self.line(row)
        if self._bar is not None:
            self._bar.tell(text)
            return
        now, last = time.monotonic(), row["iteration"] >= self.trainer.max_iter
        if last or now - self._last >= self.seconds_between:
            self._last = now
            done, end = int(row["iteration"]), self.trainer.max_iter
            self.stream.write(f"{self.title}: step {done}/{end}  {text}\n")
            self.stream.flush()

    def after_train(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()

    def line(self, row: Row) -> str:
        """Loss and its terms, learning rate, speed, time left."""
        terms = " ".join(
            f"{key.removeprefix('loss_').removeprefix('fcos_')} {value:.3f}"
            for key, value in row.items()
            if key.startswith("loss_")
        )
        done = row["iteration"] - self.trainer.start_iter
        left = self.trainer.max_iter - row["iteration"]
        eta = clock((time.monotonic() - self._began) / max(done, 1) * left)
        return (
            f"loss {row['total_loss']:.3f} ({terms})  lr {row['lr']:.4g}  "
            f"{row['images_per_s']:.1f} img/s  ETA {eta}"
        )


class ProgressFile(RowHook):
    """Writes a training's progress to a JSON file that others may read at any time.

    It has ``iteration``, ``max_iter``, ``total_loss``, ``images_per_s`` and ``seconds_left``.

    Args:
        path: of the file.
        seconds_between: minimum time between two writes.
    """

    trainer: Trainer

    def __init__(self, path: Path, seconds_between: float = 1.0) -> None:
        self.path, self.seconds_between = path, seconds_between
        self._last = -1e9
        self._began = time.monotonic()

    def before_train(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_row(self, row: Row) -> None:
        """Write the file, if the last write was long enough ago."""
        now, left = time.monotonic(), self.trainer.max_iter - row["iteration"]
        early = left > 0 and now - self._last < self.seconds_between
        if "total_loss" not in row or early:
            return
        self._last, done = now, row["iteration"] - self.trainer.start_iter
        told = {name: row[name] for name in ("iteration", "total_loss", "images_per_s")}
        told |= {
            "max_iter": self.trainer.max_iter,
            "seconds_left": (now - self._began) / max(done, 1) * left,
        }
        write_json(self.path, told)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Bar:
    """A rich progress bar with the newest figures behind it."""

    def __init__(self, title: str, start: int, end: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            refresh_per_second=2,
        )
        self._task = self._progress.add_task(title, total=end, completed=start, text="")
        self._progress.start()

    def move(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def tell(self, text: str) -> None:
        self._progress.update(self._task, text=text)

    def stop(self) -> None:
        self._progress.stop()
