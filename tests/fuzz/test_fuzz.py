"""Hostile files of every kind end in a message: no traceback, no signal, no gigabyte, no 10 s.

By default a few of each kind; `make fuzz` tries 2,000 of each and prints what became of them.
FUZZ says how many, FUZZ_SEED draws others, FUZZ_KEEP names a folder for those that found a fault.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import mutations
from tests.fuzz.mutations import KINDS
from tests.fuzz.seeds import ROOT

EXAMPLES = int(os.environ.get("FUZZ", "12"))
FEW = 50
LIGHT = ("params", "archive")  # import next to nothing
ALONE = (*LIGHT, "runs")  # share no imports with the others


def _kind(name: str) -> Any:
    return name if name in LIGHT else pytest.param(name, marks=pytest.mark.slow)


class Worker:
    """The process that forks for each file."""

    def __init__(self, kinds: Iterable[str]) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", *kinds],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={**os.environ, **one, "TERM": "dumb"},
        )  # fmt: skip
        self.baseline = self._line()["ready"]

    def ask(self, kind: str, name: str, path: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"kind": kind, "name": name, "path": str(path)}) + "\n"
        )
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the worker itself has ended"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    """Few files: one for all kinds that import the same; many: one each, with its own imports."""
    found: dict[str, Worker] = {}
    yield found
    for worker in set(found.values()):
        worker.close()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", [_kind(name) for name in KINDS])
def test_hostile_files_end_in_a_message(
    kind: str, workers: dict[str, Worker], tmp_path: Path
) -> None:
    if kind not in workers:
        alone = EXAMPLES > FEW or kind in ALONE
        together = [kind] if alone else [name for name in KINDS if name not in ALONE]
        workers |= dict.fromkeys(together, Worker(together))
    worker = workers[kind]
    outcomes: Counter[str] = Counter()
    faults: dict[str, tuple[str, str, bytes]] = {}
    most: dict[str, float] = {"memory": 0, "seconds": 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize="FUZZ_SEED" not in os.environ,
    )
    @given(mutant=KINDS[kind]())
    def try_one(mutant: mutations.Mutant) -> None:
        name, content = mutant
        path = tmp_path / "mutant"
        path.write_bytes(content)
        answer = worker.ask(kind, name, path)
        outcomes[answer["outcome"]] += 1
        for key in most:
            most[key] = max(most[key], answer[key])
        if answer["outcome"] == "fault":
            found = faults.setdefault(_signature(answer["text"]), (answer["text"], name, content))
            if len(content) < len(found[2]):
                faults[_signature(answer["text"])] = (answer["text"], name, content)

    if "FUZZ_SEED" in os.environ:
        try_one = seed(int(os.environ["FUZZ_SEED"]))(try_one)
    try_one()
    print(
        f"{kind}: {outcomes.total():,} files: {dict(outcomes)}; at most "
        f"{most['memory'] / 1e6:.0f} MB over {worker.baseline / 1e6:.0f} MB and "
        f"{most['seconds']:.1f} s"
    )
    _keep(kind, faults)
    assert not faults, "\n\n".join(text for text, *_ in faults.values())
    assert outcomes["refused"], outcomes


def _signature(text: str) -> str:
    """Where a fault happened: the last line of ours in a traceback, and its class."""
    places = re.findall(r'File "[^"]*/((?:condinst|pipeline|tests)/[^"]*)", line (\d+)', text)
    return f"{places[-1] if places else ''} {text.strip().splitlines()[-1].split(':')[0]}"


def _keep(kind: str, faults: dict[str, tuple[str, str, bytes]]) -> None:
    """Leave what found a fault in the folder FUZZ_KEEP."""
    folder = os.environ.get("FUZZ_KEEP")
    if folder is None:
        return
    for number, (signature, (text, name, content)) in enumerate(faults.items()):
        target = Path(folder) / f"{kind}-{number}"
        target.mkdir(parents=True, exist_ok=True)
        (target / Path(name).name).write_bytes(content)
        (target / "text").write_text(f"{signature}\n{name}\n{text}\n")
