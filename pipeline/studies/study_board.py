"""A study while its trainings run side by side: a row each, and one estimate for all."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from condinst.engine import PROGRESS
from pipeline import runs
from pipeline.console import terminal
from pipeline.report.words import duration

WAITING, STARTING, TRAINING, MEASURING = "waiting", "starting", "training", "evaluating"
FINISHED, FAILED = "finished", "failed"
_STYLES = {TRAINING: "cyan", MEASURING: "cyan", FINISHED: "green", FAILED: "red"}
_BETWEEN = 30.0  # seconds between two reports where there is no terminal


class StudyBoard:
    """Shows what the trainings of a study are at, from the files that they leave.

    Args:
        names: of the trainings.
        keys: their folders in ``.runs``.
        steps: of each.
        at_once: trainings that may run at a time.
        console: Where; standard error by default.
    """

    def __init__(
        self,
        names: Sequence[str],
        keys: Sequence[str],
        steps: Sequence[int],
        at_once: int,
        console: Console | None = None,
    ) -> None:
        self.names, self.steps, self.at_once = names, steps, at_once
        self.note = ""
        self.console = console or terminal(stderr=True)
        self._paths = [runs.RUNS / key / PROGRESS for key in keys]
        self._over: dict[int, str] = {}
        self._running: Collection[int] = ()
        self._began = time.time()
        self._told = time.monotonic()

    @contextlib.contextmanager
    def showing(self) -> Iterator[StudyBoard]:
        """Show it live where the console is a terminal."""
        live = Live(
            get_renderable=self.table, console=self.console, refresh_per_second=1, transient=True
        )
        with live if self.console.is_terminal else contextlib.nullcontext():
            yield self

    def say(self, text: str) -> None:
        """Print a line, above the table where there is one."""
        self.console.print(text, soft_wrap=True)

    def over(self, number: int, state: str) -> None:
        """A training has ended and is measured."""
        self._over[number] = state

    def tick(self, running: Collection[int], note: str = "") -> None:
        """Take which ones run now and why not more; without a terminal, report now and then."""
        self._running = running
        if note and note.partition(":")[0] != self.note.partition(":")[0]:
            self.say(note)
        self.note = note
        now = time.monotonic()
        if not self.console.is_terminal and now - self._told >= _BETWEEN:
            self._told = now
            for number in sorted(running):
                state, told = self.state(number)
                self.say(f"{self.names[number]}: {state} {_figures(told)}".rstrip())
            self.say(self._caption())

    def started(self, number: int) -> bool:
        """Whether a running training has taken its first steps, and so all memory it needs."""
        return bool(self._told_by(number))

    def state(self, number: int) -> tuple[str, Mapping[str, Any]]:
        """In a word, and the last figures of a training that runs."""
        if number in self._over:
            return self._over[number], {}
        if number not in self._running:
            return WAITING, {}
        told = self._told_by(number)
        if not told:
            return STARTING, {}
        done = told["iteration"] >= told["max_iter"]
        return (MEASURING if done else TRAINING), told

    def table(self) -> Table:
        """All trainings."""
        caption = "\n".join(filter(None, (self._caption(), self.note)))
        table = Table(caption=caption, box=SIMPLE, header_style="bold")
        table.add_column("training")
        for name in ("step", "loss", "images/s", "left"):
            table.add_column(name, justify="right")
        table.add_column("state")
        for number, name in enumerate(self.names):
            state, told = self.state(number)
            figures = ["", "", "", ""]
            if told:
                figures = [
                    f"{told['iteration']:,.0f} / {told['max_iter']:,}",
                    f"{told['total_loss']:.3f}",
                    f"{told['images_per_s']:.1f}",
                    duration(told["seconds_left"]) if state == TRAINING else "",
                ]
            table.add_row(name, *figures, Text(state, _STYLES.get(state, "dim")))
        return table

    def seconds_left(self) -> float | None:
        """Of the whole study, evaluation not counted; None before anything tells the speed."""
        told = {n: self._told_by(n) for n in self._running if n not in self._over}
        speeds = [  # seconds a step
            one["seconds_left"] / (one["max_iter"] - one["iteration"])
            for one in told.values()
            if one and one["max_iter"] > one["iteration"]
        ]
        if not speeds:
            return None
        todo = 0.0
        for number, steps in enumerate(self.steps):
            if number not in self._over:
                done = told[number]["iteration"] if told.get(number) else 0
                todo += steps - done
        return todo * statistics.median(speeds) / max(1, min(self.at_once, len(self._running)))

    def _caption(self) -> str:
        left = self.seconds_left()
        text = f"{len(self._over)} of {len(self.names)} over"
        if left is not None:
            text += f", about {duration(left)} left"
        return text

    def _told_by(self, number: int) -> dict[str, Any]:
        """What a training has told since this study began."""
        path: Path = self._paths[number]
        try:
            if path.stat().st_mtime < self._began:
                return {}
            return json.loads(path.read_text())
        except (OSError, ValueError):
            return {}


def _figures(told: Mapping[str, Any]) -> str:
    if not told:
        return ""
    return (
        f"step {told['iteration']:.0f} of {told['max_iter']}, loss {told['total_loss']:.3f}, "
        f"{told['images_per_s']:.1f} images/s"
    )
