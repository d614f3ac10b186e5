"""Two files of results side by side: what has become slower beyond the noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks._results import Results, read
from benchmarks._rows import Row, best_rates, markdown, time_text

NOISE = 1.05  # a ratio that means nothing
FEW, NOISE_OF_FEW = 3, 1.15  # repetitions whose spread is not known, and what it may be
_HEADS = ("", "A", "B", "B / A", "")


def compare(first: Path, second: Path) -> None:
    """Prints a table for each of theirs.

    Raises:
        UserError: one of them cannot be read.
    """
    a, b = read(first), read(second)
    for line in differing(a, b):
        print(line)
    limits = [
        (kind, f"{rate / 1e9:.1f} G/s", f"{best / 1e9:.1f} G/s", f"{best / rate:.2f}", "")
        for kind, rate in best_rates(a.limits).items()
        if (best := best_rates(b.limits).get(kind))
    ]
    markdown("The machine's limits, more is better", _HEADS, limits)
    slower = missing = 0
    theirs = dict(b.tables())
    for title, rows in a.tables():
        others = {row.what: row for row in theirs.pop(title, [])}
        lines = [_line(row, others.pop(row.what, None)) for row in rows]
        lines += [_line(None, row) for row in others.values()]
        slower += sum(line[-1].startswith("**slower") for line in lines)
        missing += sum(line[-1].startswith("only") for line in lines)
        markdown(title, _HEADS, lines)
    for title, rows in theirs.items():
        missing += len(rows)
        markdown(title, _HEADS, [_line(None, row) for row in rows])
    print(f"A: {first}, B: {second}. Slower in B: {slower} rows; in one file alone: {missing}.")


def verdict(a: Row, b: Row) -> str:
    """``slower`` or ``faster`` where the two ranges lie apart, and by more than noise; or empty."""
    if a.median is None or b.median is None:
        return ""
    few = min(len(a.seconds), len(b.seconds)) < FEW
    least = NOISE_OF_FEW if few else NOISE
    if min(b.seconds) > max(a.seconds) and b.median > least * a.median:
        return "**slower**"
    if max(b.seconds) < min(a.seconds) and a.median > least * b.median:
        return "faster"
    return ""


def differing(a: Results, b: Results) -> Iterator[str]:
    """In what the two files differ beside their times, and what broke off."""
    if a.machine != b.machine:
        yield f"Other machines ({a.machine.name}, {b.machine.name}): ratios tell of them, too."
    for name, taken in a.benchmarks.items():
        other = b.benchmarks.get(name)
        if other is None:
            continue
        versions = [
            f"{package} {version} and {other.versions.get(package, 'none')}"
            for package, version in taken.versions.items()
            if version != other.versions.get(package, "none")
        ]
        if versions:
            yield f"{name}: {', '.join(versions)}."
    for letter, results in (("A", a), ("B", b)):
        for name, taken in results.benchmarks.items():
            if taken.error:
                yield f"{name} broke off in {letter}: {taken.error}."


def _line(a: Row | None, b: Row | None) -> tuple[str, ...]:
    row = a or b
    assert row is not None
    if a is None or b is None:
        said = f"only in {'B' if a is None else 'A'}"
    elif a.refused or b.refused:
        said = f"not there in {' and '.join(x for x, y in (('A', a), ('B', b)) if y.refused)}"
    else:
        said = verdict(a, b)
    both = a and b and a.median and b.median
    ratio = f"{b.median / a.median:.2f}" if both else ""
    return row.what, _time(a), _time(b), ratio, said


def _time(row: Row | None) -> str:
    return "" if row is None or row.median is None else time_text(row.median)
