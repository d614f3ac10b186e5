"""A machine and results for tests, without a look at the machine at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks._machine import Machine
from benchmarks._results import Results, Taken
from benchmarks._rows import Limit, Row

MACHINE = Machine(
    cpu="Intel(R) Xeon(R) CPU @ 2.1GHz", flags="avx2, avx512f", torch="avx512", onednn="AVX-512",
    numba="skylake-avx512", forced=False, threads=2, cores=2, memory=8_000_000_000, gpu="",
)  # fmt: skip
LIMITS = [Limit("matrix product", "cpu fp32", 2e9), Limit("copy", "cpu memory", 1e9)]
VERSIONS = {"python": "3.11.7", "torch": "2.14.1"}


def results(
    tables: Mapping[str, Sequence[Row]],
    machine: Machine = MACHINE,
    versions: Mapping[str, str] = VERSIONS,
    error: str = "",
) -> Results:
    """Of benchmarks by name."""
    taken = {
        name: Taken(list(rows), versions, "abc1234", "2026-01-02", error=error)
        for name, rows in tables.items()
    }
    return Results(machine, LIMITS, taken)
