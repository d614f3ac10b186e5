"""The tables of docs/performance.md, made from files of results: `python -m benchmarks.tables`.

A column for each file in benchmarks/results. With files as arguments (outputs/bench/MACHINE.json),
those are taken into that folder first, in place of an earlier one of the same machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._results import Results, read
from benchmarks._rows import (
    Row,
    best_rates,
    memory_text,
    table_lines,
    time_text,
    times_faster,
)
from condinst.atomic import atomic_file
from condinst.errors import UserError
from condinst.files.text import read_text

_ROOT = Path(__file__).resolve().parent.parent
RESULTS = _ROOT / "benchmarks" / "results"
PAGE = _ROOT / "docs" / "performance.md"
BEGIN = "<!-- written by python -m benchmarks.tables -->"
END = "<!-- end of what it writes -->"


def main(given: Sequence[str] | None = None) -> None:
    """Takes files in, writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="MACHINE.json")
    try:
        for results in [read(path) for path in parser.parse_args(given).files]:
            check_whole(results)
            results.write(RESULTS / f"{results.machine.name}.json")
        text = page(read_text(PAGE), [read(path) for path in sorted(RESULTS.glob("*.json"))])
    except UserError as error:
        sys.exit(str(error))
    with atomic_file(PAGE) as partial:
        partial.write_text(text)
    print(f"Written: {PAGE}")


def check_whole(results: Results) -> None:
    """Refuses what should not be published.

    Raises:
        UserError: a benchmark broke off.
    """
    failed = [name for name, taken in results.benchmarks.items() if taken.error]
    if failed:
        raise UserError(
            f"{results.machine.name}: {', '.join(failed)} broke off: measure again by "
            f"python -m benchmarks {' '.join(failed)}"
        )


def page(text: str, found: Sequence[Results]) -> str:
    """A page with the tables between its two marks.

    Raises:
        UserError: it has no such marks.
    """
    before, first, rest = text.partition(BEGIN)
    _, second, after = rest.partition(END)
    if not first or not second:
        raise UserError(f"{PAGE} lacks the lines {BEGIN!r} and {END!r}: put them back")
    return "\n".join((before + BEGIN, *tables(found), END + after))


def tables(found: Sequence[Results]) -> Iterator[str]:
    """Lines of Markdown: the machines, then each table with a column for every machine."""
    if not found:
        yield "No results yet: see above for the commands."
        return
    yield from _machines(found)
    titles = list(dict.fromkeys(title for one in found for title, _ in one.tables()))
    for title in titles:
        columns = [{row.what: row for row in dict(one.tables()).get(title, [])} for one in found]
        goals: dict[str, str] = {}
        for column in columns:
            for what, row in column.items():
                goals[what] = goals.get(what) or row.goal
        lines = [
            (what, *(_cell(column.get(what), column) for column in columns), goal)
            for what, goal in goals.items()
        ]
        heads = ("", *(one.machine.name for one in found), "goal")
        yield from ("", f"**{title}**", "", *table_lines(heads, lines))


def _machines(found: Sequence[Results]) -> Iterator[str]:
    columns = [dict((*one.machine.lines(), *_taken(one), *_limits(one))) for one in found]
    labels = dict.fromkeys(label for column in columns for label in column)
    names = [one.machine.name for one in found]
    lines = [(label, *(column.get(label, "") for column in columns)) for label in labels]
    yield from table_lines(("", *names), lines)


def _taken(results: Results) -> Iterator[tuple[str, str]]:
    runs = results.benchmarks.values()
    packages = [", ".join(f"{k} {v}" for k, v in taken.versions.items()) for taken in runs]
    commits = [f"{taken.date}, {taken.commit}" for taken in runs]
    yield "versions", "; ".join(dict.fromkeys(packages))
    yield "measured, commit", "; ".join(dict.fromkeys(commits))
    yield "load before", f"{max((taken.load for taken in runs), default=0):.1f} at most"


def _limits(results: Results) -> Iterator[tuple[str, str]]:
    best = best_rates(results.limits)
    for kind in ("cpu fp32", "cpu bf16", "cpu memory", "cuda fp32", "cuda bf16", "cuda memory"):
        if not kind.startswith("cuda") or results.machine.gpu:
            unit = "GB/s" if kind.endswith("memory") else "GFLOP/s"
            yield f"limit: {kind}", f"{best[kind] / 1e9:.0f} {unit}" if kind in best else ""


def _cell(row: Row | None, others: dict[str, Row]) -> str:
    """The time; times faster in bold; share of the limit; peak."""
    if row is None:
        return ""
    if row.refused:
        return f"not here: {row.refused}"
    faster = times_faster(row, others)
    parts = (
        time_text(row.median) if row.median is not None else "",
        f"**{faster:.2f}** times faster" if faster else "",
        f"{row.share:.0%} of the limit" if row.share is not None else "",
        memory_text(row.peak) if row.peak is not None else "",
    )
    return ", ".join(part for part in parts if part)


if __name__ == "__main__":
    main()
