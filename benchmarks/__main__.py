"""Speed on this machine: `python -m benchmarks [NAME ...]`, or `make bench` for all.

Begins with the machine and its limits, prints a table for each question in Markdown and keeps all
rows in outputs/bench/MACHINE.json, where a run of some benchmarks leaves the others' as they were.
What checks something else than speed (kills, equality, bad_input, ...) is a command of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _compare, _machine, _results
from benchmarks._apart import Failed, apart
from benchmarks._results import Results, Taken
from benchmarks._rows import Limit, Row, best_rates, markdown, rate_text, share_of_limit, show
from condinst.cores import available_cores
from condinst.errors import UserError

SCRIPTS = (
    *("mask_heads", "box_losses", "targets", "inference", "train_step"),
    *("scaling", "evaluation", "bootstrap", "data_scale", "gpu"),
)
OUTPUT = Path("outputs/bench")


def main(given: Sequence[str] | None = None) -> None:
    """Exits with 1 if a benchmark failed; what it takes with it is its own tables alone."""
    parser = _parser()
    options = parser.parse_args(given)
    unknown = sorted(set(options.names) - set(SCRIPTS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: use {', '.join(SCRIPTS)}")
    if options.set and len(options.names) != 1:
        parser.error("--set is for one benchmark: name it")
    if not 1 <= options.threads <= available_cores():
        parser.error(f"--threads {options.threads}: this process has {available_cores()} cores")
    try:
        if options.compare:
            _compare.compare(*options.compare)
            return
        if options.isa:
            _machine.force(options.isa)
        failed = _run_all(options)
    except UserError as error:
        sys.exit(str(error))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: a core's")
    parser.add_argument("--isa", choices=list(_machine.ISAS), help="computes as an older CPU would")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="another size of one benchmark; then nothing is kept")  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="the smallest sizes: does it run?")
    parser.add_argument("--output", type=Path, help=f"the folder of results, {OUTPUT} by default")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"),
                        help="sets two files of results side by side")  # fmt: skip
    return parser


def _run_all(options: argparse.Namespace) -> list[str]:
    """Measures and keeps; the names of what failed."""
    names = options.names or SCRIPTS
    folder = options.output or (None if options.smoke or options.set else OUTPUT)
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or torch's profiler tells of its own doings
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of everything imported from here on
    machine, *limits = apart(_look, options.smoke)
    results = Results(machine, limits)
    path = folder / f"{machine.name}.json" if folder else None
    if path and path.exists():
        former = _results.read(path)
        results = dataclasses.replace(results, benchmarks=former.benchmarks)
    versions = _machine.versions()
    _begin(results, versions)
    _import_what_all_need()
    for name in names:
        taken = _run(name, options, best_rates(limits), versions)
        results = _in_order(results.updated(name, taken))
        if path:
            results.write(path)  # what was measured is kept, whatever comes next
    for line in _kept(results, names, versions):
        print(line)
    print(f"Kept in {path}" if path else "Nothing kept.")
    return [name for name in names if results.benchmarks[name].error]


def _in_order(results: Results) -> Results:
    """The benchmarks in the order of `SCRIPTS`, without those that are no more."""
    known = {name: results.benchmarks[name] for name in SCRIPTS if name in results.benchmarks}
    return dataclasses.replace(results, benchmarks=known)


def _look(smoke: bool) -> Iterator[_machine.Machine | Limit]:
    from benchmarks import _limits

    yield _machine.machine()
    yield from _limits.limits(smoke=smoke)


def _begin(results: Results, versions: Mapping[str, str]) -> None:
    lines = [
        *results.machine.lines(),
        ("versions", ", ".join(f"{name} {value}" for name, value in versions.items())),
        ("commit, load before", f"{_machine.commit()}, {os.getloadavg()[0]:.1f}"),
    ]
    markdown("The machine", ("", ""), lines)
    lines = [(limit.what, rate_text(limit)) for limit in results.limits]
    markdown("Its limits", ("", "best"), lines)


def _import_what_all_need() -> None:
    """Once, before the forks; computes nothing."""
    warnings.filterwarnings("ignore", message=".*pkg_resources")
    warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
    importlib.import_module("condinst.config")


def _run(
    name: str, options: argparse.Namespace, best: Mapping[str, float], versions: Mapping[str, str]
) -> Taken:
    """One benchmark's rows, printed as they come."""
    print(f"\n### {name}", flush=True)
    began, load, error = time.perf_counter(), os.getloadavg()[0], ""
    rows: list[Row] = []

    def come() -> Iterator[Row]:
        for row in apart(_rows, name, options.smoke, options.set):
            rows.append(dataclasses.replace(row, share=share_of_limit(row, best)))
            yield rows[-1]

    try:
        show(come())
    except Failed as failure:
        error = str(failure)
        print(f"\nFailed: {error}.")
    seconds = time.perf_counter() - began
    print(f"\nTook {seconds:.0f} s.", flush=True)
    return Taken(rows, versions, _machine.commit(), seconds=seconds, load=load, error=error)


def _rows(name: str, smoke: bool, pairs: Sequence[str]) -> Iterator[Row]:
    """A benchmark's rows at its own size or its smallest, some of its numbers changed."""
    module = importlib.import_module(f"benchmarks.{name}")
    size = module.SMOKE if smoke else module.Size()
    return module.rows(size._replace(**dict(_change(name, size._asdict(), x) for x in pairs)))


def _change(name: str, known: Mapping[str, Any], pair: str) -> tuple[str, Any]:
    """``KEY=VALUE`` as a key that is known and a value of its kind."""
    key, _, text = pair.partition("=")
    if key not in known:
        sizes = ", ".join(f"{key}={value}" for key, value in known.items())
        raise UserError(f"--set {pair}: {name} has {sizes or 'no sizes'}")
    kind = type(known[key])
    try:
        return key, {"True": True, "False": False}[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise UserError(f"--set {pair}: expected a value such as {known[key]}") from None


def _kept(results: Results, names: Sequence[str], versions: Mapping[str, str]) -> Iterator[str]:
    """Which tables were taken before, and with what else."""
    for name, taken in results.benchmarks.items():
        if name in names:
            continue
        others = [
            f"{package} {version}, now {versions.get(package, 'none')}"
            for package, version in taken.versions.items()
            if version != versions.get(package)
        ]
        said = f" with {'; '.join(others)}" if others else ""
        yield f"Not measured now: {name}, of {taken.date}{said}."


if __name__ == "__main__":
    # or else what it has started would go on; their own children end in the same way
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    main()
