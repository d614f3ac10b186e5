"""Sends a training's figures to MLflow."""

from __future__ import annotations

from typing import Any

from condinst.engine.trainer import RowHook
from pipeline.tracking.address import Address
from pipeline.tracking.run import Run


class MlflowHook(RowHook):
    """Sends rows of figures to an MLflow run, several at a time.

    What the store does not accept is kept and sent with the next rows; the curve is on disk anyway.

    Args:
        address: of the run.
        rows_a_request: how many rows to send at once.
    """

    def __init__(self, address: Address, rows_a_request: int = 5) -> None:
        self.address = address
        self.rows_a_request = rows_a_request
        self._rows: list[dict[str, float]] = []
        self._run: Run | None = None
        self._monitor: Any = None

    def before_train(self) -> None:
        """Start recording the machine's load."""
        self._run = Run(self.address)
        self._monitor = self._run.watch()

    def on_row(self, row: dict[str, float]) -> None:
        """Keep the row; send when there are enough rows."""
        self._rows.append(dict(row))
        if len(self._rows) % self.rows_a_request == 0:
            self._send()

    def after_train(self) -> None:
        """Send the rest."""
        if self._monitor is not None:
            self._monitor.finish()
        self._send()

    def _send(self) -> None:
        self._run = self._run or Run(self.address)
        if self._rows and self._run.log_rows(self._rows):
            self._rows = []
