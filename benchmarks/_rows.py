"""What a benchmark finds: rows of figures, and how they are printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Row:
    """One way to do one thing, with what it took.

    Attributes:
        table: the title of its table, with all sizes.
        what: the way; a name within the table.
        seconds: of each repetition; empty where there is no time to give.
        against: the way in the same table that it is compared with.
        goal: in words.
        peak: bytes that the first call took at its peak, beyond what was there before.
        flops: operations that it cannot do without; a multiply-add is two. 0 where not counted.
        moved: bytes that it must read and write at least. 0 where not counted.
        limit: the machine's limit that operations are compared with, as `Limit.kind`.
        share: of that limit, between 0 and 1.
        note: all else.
        refused: why this machine cannot do it; then there are no figures.
    """

    table: str
    what: str
    seconds: Sequence[float] = ()
    against: str = ""
    goal: str = ""
    peak: int | None = None
    flops: float = 0
    moved: float = 0
    limit: str = "cpu fp32"
    share: float | None = None
    note: str = ""
    refused: str = ""

    @property
    def median(self) -> float | None:
        """Seconds."""
        return statistics.median(self.seconds) if self.seconds else None


@dataclass(frozen=True)
class Limit:
    """A rate that this machine reached, in operations or bytes per second."""

    what: str
    kind: str  # "cpu fp32", "cpu bf16", "cpu memory"; the same with "cuda"
    rate: float


def best_rates(limits: Iterable[Limit]) -> dict[str, float]:
    """The highest rate of each kind."""
    best: dict[str, float] = {}
    for limit in limits:
        best[limit.kind] = max(best.get(limit.kind, 0), limit.rate)
    return best


def share_of_limit(row: Row, best: Mapping[str, float]) -> float | None:
    """Least seconds by the machine's limits, in the seconds taken; None where nothing is counted.

    Operations and bytes could overlap, so the slower of the two decides.
    """
    memory = f"{row.limit.split()[0]} memory"
    counted = ((row.flops, best.get(row.limit)), (row.moved, best.get(memory)))
    least = max((amount / rate for amount, rate in counted if rate), default=0.0)
    return least / row.median if least and row.median else None


def times_faster(row: Row, others: Mapping[str, Row]) -> float | None:
    """How many times faster than what it is compared with."""
    base = others[row.against].median if row.against in others else None
    return base / row.median if base and row.median else None


def time_text(seconds: float) -> str:
    """Microseconds, milliseconds or seconds."""
    unit, size = ("s", 1) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("us", 1e-6)
    value = seconds / size
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def memory_text(size: float) -> str:
    """Megabytes."""
    return f"{size / 1e6:.0f} MB"


def rate_text(limit: Limit) -> str:
    """GFLOP/s or GB/s."""
    memory = limit.kind.endswith("memory")
    return f"{limit.rate / 1e9:.{int(memory)}f} {'GB/s' if memory else 'GFLOP/s'}"


def show(rows: Iterable[Row]) -> None:
    """Prints rows that follow each other under their table's title, each table when it is whole."""
    for title, group in groupby(rows, key=lambda row: row.table):
        whole: list[Row] = []
        try:
            whole.extend(group)
        except BaseException:
            _table(title, whole)  # what came before the failure
            raise
        _table(title, whole)


def _table(title: str, rows: Sequence[Row]) -> None:
    """Columns that no row fills are left out."""
    others = {row.what: row for row in rows}
    cells = [_cells(row, others) for row in rows]
    used = [k for k in range(len(_HEADS)) if k == 0 or any(line[k] for line in cells)]
    markdown(title, [_HEADS[k] for k in used], [[line[k] for k in used] for line in cells])


_HEADS = (
    *("", "median", "fastest to slowest", "times faster", "of the limit"),
    *("peak extra", "of peak", "goal", "note"),
)


def _cells(row: Row, others: Mapping[str, Row]) -> tuple[str, ...]:
    taken, faster, base = row.seconds, times_faster(row, others), others.get(row.against)
    spread = f"{time_text(min(taken))} to {time_text(max(taken))}" if len(taken) > 1 else ""
    compared = base is not None and row.peak is not None and base.peak
    return (
        row.what,
        time_text(row.median) if row.median is not None else "",
        spread,
        f"{faster:.2f}" if faster else "",
        f"{row.share:.0%}" if row.share is not None else "",
        memory_text(row.peak) if row.peak is not None else "",
        f"{row.peak / base.peak:.2f}" if compared else "",
        row.goal,
        f"not on this machine: {row.refused}" if row.refused else row.note,
    )


def markdown(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table of Markdown under its title."""
    print(f"\n**{title}**\n")
    print("\n".join(table_lines(heads, rows)), flush=True)


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
