"""The file of a machine's results: read, brought up to date, written.

It holds the machine, its limits, and under each benchmark's name the rows with the date, the commit
and the versions that they were taken with. A run of a few benchmarks keeps the others'.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._machine import Machine
from benchmarks._rows import Limit, Row
from condinst.atomic import write_json
from condinst.errors import UserError
from condinst.files import jsontext

FORMAT = 1  # of the file


@dataclass(frozen=True)
class Taken:
    """One benchmark's rows, and when and with what they were taken."""

    rows: Sequence[Row]
    versions: Mapping[str, str]
    commit: str = ""
    date: str = field(default_factory=lambda: dt.date.today().isoformat())
    seconds: float = 0  # in all
    load: float = 0  # of the machine before
    error: str = ""  # why it broke off; the rows are those before


@dataclass(frozen=True)
class Results:
    """Of one machine."""

    machine: Machine
    limits: Sequence[Limit] = ()
    benchmarks: Mapping[str, Taken] = field(default_factory=dict)

    def updated(self, name: str, taken: Taken) -> Results:
        """With one benchmark's rows instead of its former ones."""
        return dataclasses.replace(self, benchmarks={**self.benchmarks, name: taken})

    def tables(self) -> Iterator[tuple[str, list[Row]]]:
        """Titles of the tables and their rows, in their order."""
        found: dict[str, list[Row]] = {}
        for taken in self.benchmarks.values():
            for row in taken.rows:
                found.setdefault(row.table, []).append(row)
        yield from found.items()

    def write(self, path: Path) -> None:
        """The file, whole or as it was."""
        plain = {
            "format": FORMAT,
            "machine": self.machine._asdict(),
            "limits": [dataclasses.asdict(limit) for limit in self.limits],
            "benchmarks": {name: _plain(taken) for name, taken in self.benchmarks.items()},
        }
        write_json(path, plain)


def read(path: Path) -> Results:
    """What `Results.write` has written.

    Raises:
        UserError: the file is missing, broken, or not one of these.
    """
    value = jsontext.read(path)
    if not isinstance(value, dict) or "benchmarks" not in value or "format" not in value:
        raise UserError(f"{path} holds no results of benchmarks: `make bench` writes such files")
    if value["format"] != FORMAT:
        raise UserError(
            f"{path} has format {value['format']!r}, this version reads {FORMAT}: "
            "measure again by `make bench`"
        )
    try:
        return Results(
            _machine(value["machine"]),
            [Limit(**limit) for limit in value["limits"]],
            {name: _taken(taken) for name, taken in value["benchmarks"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} holds results of benchmarks, but not as `make bench` writes them "
            f"({type(error).__name__}: {error}): remove it and measure again"
        ) from error


def _plain(taken: Taken) -> dict[str, Any]:
    """Without what rows leave empty; times of four digits."""
    plain = dataclasses.asdict(taken)
    plain["rows"] = [
        {key: _short(value) for key, value in row.items() if _said(key, value)}
        for row in plain["rows"]
    ]
    return {**plain, "seconds": round(taken.seconds, 1), "load": round(taken.load, 1)}


def _said(key: str, value: Any) -> bool:
    return value not in ("", None, (), []) and bool(value or key == "peak")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_short(x) for x in value] if isinstance(value, (list, tuple)) else value


def _machine(plain: dict[str, Any]) -> Machine:
    machine = Machine(**plain)
    for key, kind in typing.get_type_hints(Machine).items():
        if not isinstance(plain[key], kind):
            raise ValueError(f"machine: {key} is {plain[key]!r}")
    return machine


def _taken(plain: dict[str, Any]) -> Taken:
    for key, kind in (("versions", dict), ("date", str), ("error", str), ("load", (int, float))):
        if not isinstance(plain[key], kind):
            raise ValueError(f"{key} is {plain[key]!r}")
    return Taken(**{**plain, "rows": [_row(row) for row in plain["rows"]]})


def _row(plain: dict[str, Any]) -> Row:
    row = Row(**plain)
    if not isinstance(row.table, str) or not isinstance(row.what, str):
        raise ValueError(f"a row of {row.table!r}: {row.what!r}")
    seconds = [float(x) for x in row.seconds]
    if not all(0 < x < float("inf") for x in seconds):
        raise ValueError(f"{row.table}, {row.what}: seconds {seconds}")
    return row
