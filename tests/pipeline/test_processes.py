"""Jobs in processes of their own: side by side, started again, ended with who asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipeline.studies import processes
from pipeline.studies.processes import Crew, JobDied
from tests.pipeline import crew_work

SCRIPT = """
import sys
from pipeline.studies import processes
from tests.pipeline import crew_work
from pathlib import Path
if __name__ == "__main__":
    processes._PRELOAD[:] = []
    folder = sys.argv[1]
    jobs = [(folder, name) for name in "ab"]
    crew = processes.Crew(crew_work.sleep, jobs, [Path(folder, "log")] * 2, at_once=2)
    list(crew.results())
"""


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """These jobs import nothing heavy."""
    monkeypatch.setattr(processes, "_PRELOAD", [])


@pytest.fixture
def crew(tmp_path: Path) -> Callable[..., Crew]:
    def make(work: Callable[..., Any], jobs: list[Any], **options: Any) -> Crew:
        folder = tmp_path / "marks"
        folder.mkdir()
        logs = [tmp_path / "logs" / f"{number}.txt" for number in range(len(jobs))]
        return Crew(work, [(str(folder), *job) for job in jobs], logs, **options)

    return make


def test_side_by_side_in_fresh_processes(crew: Callable[..., Crew], tmp_path: Path) -> None:
    made = crew(crew_work.meet, [("a", 2), ("b", 2), ("c", 1)], at_once=2, gpus=2)
    most: list[int] = []
    found = dict(made.results(lambda: most.append(len(made.running))))
    assert sorted(found) == [0, 1, 2]
    assert len({process for process, _, _ in found.values()}) == 3
    assert {calls for _, calls, _ in found.values()} == {1}  # no state of another job
    assert {found[0][2], found[1][2]} == {"0,1", "2,3"}
    assert found[2][2] in ("0,1", "2,3")
    assert max(most, default=0) <= 2
    assert (tmp_path / "logs/1.txt").read_text() == "here is b\n"


def test_a_job_whose_process_dies_starts_again(crew: Callable[..., Crew]) -> None:
    made = crew(crew_work.die, [("a", 2), ("b", 3), ("c", 0)], at_once=3)
    found = dict(made.results())
    assert (found[0], found[2]) == ("a", "c")
    assert isinstance(found[1], JobDied)
    assert "SIGKILL" in str(found[1])
    assert "memory runs out" in str(found[1])
    assert made.logs[1].read_text() == "about to die\n" * 3


@pytest.mark.slow
def test_no_more_than_memory_holds(
    crew: Callable[..., Crew], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = crew(crew_work.meet, [("a", 2), ("b", 2)], at_once=2)  # each waits for another
    made.largest = 3 << 30
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 30))
    said: set[str] = set()
    most: list[int] = []

    def tick() -> None:
        said.add(made.held_back)
        most.append(len(made.running))
        if made.held_back:
            (tmp_path / "marks/another").touch()

    assert len(dict(made.results(tick))) == 2
    assert max(most) <= 1
    assert "1 instead of 2 at a time: one takes 3.0 GiB of memory, 1.0 GiB are free" in said


def test_the_second_waits_for_the_first_to_settle(crew: Callable[..., Crew]) -> None:
    most: list[int] = []
    made = crew(crew_work.meet, [("a", 1), ("b", 1)], at_once=2, settled=lambda _: False)
    assert len(dict(made.results(lambda: most.append(len(made.running))))) == 2
    assert max(most) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_who_asked(
    tmp_path: Path, repository: Path, signal_number: signal.Signals
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    marks = [tmp_path / name for name in "ab"]
    _wait(lambda: all(mark.exists() for mark in marks))
    jobs = [int(mark.read_text()) for mark in marks]
    assert all(map(psutil.pid_exists, jobs))
    parent.send_signal(signal_number)  # to it alone
    parent.wait(60)
    _wait(lambda: not any(_alive(job) for job in jobs))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)
