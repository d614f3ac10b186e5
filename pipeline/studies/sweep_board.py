"""A sweep while it runs: on a terminal one live table of all trials, else a line an event."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.console import terminal
from pipeline.tracking.provenance import short

TRAINING, FINISHED, STOPPED, FAILED = "training", "finished", "stopped early", "failed"
OVER = (FINISHED, STOPPED, FAILED)
_STYLES = {TRAINING: "cyan", FINISHED: "green", STOPPED: "dim", FAILED: "red"}


@dataclass(frozen=True)
class TrialRow:
    """A trial at this moment.

    Attributes:
        number: In order of their beginning.
        values: Key to what the search chose.
        state: `waiting`, `training`, `finished`, `stopped early` or `failed`.
        step: Of the last figure.
        score: The last figure.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    step: int | None = None
    score: float | None = None


class Board:
    """Shows rows as they change.

    Args:
        metric: Name of the figure.
        trials: How many there will be.
        steps: Of a trial that is not stopped.
        console: Where; standard error by default.
    """

    def __init__(
        self, metric: str, trials: int, steps: int, console: Console | None = None
    ) -> None:
        self.metric, self.trials, self.steps = metric, trials, steps
        self.console = console or terminal(stderr=True)
        self.rows: tuple[TrialRow, ...] = ()
        self._began = time.monotonic()

    @contextlib.contextmanager
    def showing(self) -> Iterator[Board]:
        """Make this the board that `tell` reaches; live where the console is a terminal."""
        global _current
        _current = self
        live = Live(
            get_renderable=self.table, console=self.console, refresh_per_second=2, transient=True
        )
        try:
            with live if self.console.is_terminal else contextlib.nullcontext():
                yield self
        finally:
            _current = None

    def update(self, rows: Sequence[TrialRow]) -> None:
        """Take what the trials are now; without a terminal, say what is new."""
        former = dict(enumerate(self.rows))
        self.rows = tuple(rows)
        if not self.console.is_terminal:
            for row in self.rows:
                if row != former.get(row.number):
                    self._say(row, former.get(row.number))

    def table(self) -> Table:
        """All trials, the best of them so far in bold."""
        best = self.best()
        table = Table(caption=self._caption(best), box=SIMPLE, header_style="bold")
        for name in ("trial", self.metric, "steps"):
            table.add_column(name, justify="right")
        table.add_column("state")
        table.add_column("values")
        for row in self.rows:
            state = Text(row.state, _STYLES.get(row.state, "dim"))
            score = "-" if row.score is None else f"{row.score:.2f}"
            step = f"{row.step or 0:,} / {self.steps:,}"
            style = "bold" if row is best else ""
            brief = {key.rpartition(".")[2]: value for key, value in row.values.items()}
            table.add_row(str(row.number), score, step, state, listed(brief), style=style)
        return table

    def best(self) -> TrialRow | None:
        """The trial with the best figure so far."""
        known = [row for row in self.rows if row.score is not None and row.state != FAILED]
        return max(known, key=lambda row: row.score or 0.0, default=None)

    def over(self) -> int:
        """How many trials have ended."""
        return sum(row.state in OVER for row in self.rows)

    def _caption(self, best: TrialRow | None) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._began), 60)
        text = f"{self.over()} of {self.trials} trials over, {minutes}:{seconds:02d} min"
        return text if best is None else f"{text}, best so far {best.score:.2f}"

    def _say(self, row: TrialRow, former: TrialRow | None) -> None:
        if row.score is not None and (former is None or row.step != former.step):
            sys.stderr.write(
                f"trial {row.number}: step {row.step}: {row.score:.2f}  ({listed(row.values)})\n"
            )
        if row.state in OVER and (former is None or row.state != former.state):
            sys.stderr.write(f"trial {row.number}: {row.state.replace('failed', 'FAILED')}\n")


_current: Board | None = None


def tell(rows: Sequence[TrialRow]) -> None:
    """Hand rows to the board that is being shown, if any.

    Ray Tune keeps its callbacks on disk to go on after a kill; a board cannot be kept, so theirs
    is found here.
    """
    if _current is not None:
        _current.update(rows)


def listed(values: Mapping[str, Any]) -> str:
    """`train.lr = 0.001234, train.steps = 5`."""
    return ", ".join(f"{key} = {short(value)}" for key, value in values.items())
