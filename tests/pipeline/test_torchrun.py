"""A user's error ends the torchrun that would only repeat it; torchrun is played by a script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AGENT = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(17))
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
WORKER = """
import os, time
agent = os.getppid()
from pipeline import torchrun
from condinst.errors import PassingError, UserError
torchrun.end_for_good({error}("what"))
for _ in range({waits}):
    if os.getppid() != agent:  # it has ended
        break
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("agent", "error", "made", "status"),
    [
        ("torchrun", "UserError", 0, 17),
        ("torchrun", "UserError", 3, 0),  # it would not repeat it anyhow
        ("torchrun", "PassingError", 0, 0),
        ("script", "UserError", 0, 0),
    ],
)
def test_who_is_ended(
    tmp_path: Path, repository: Path, agent: str, error: str, made: int, status: int
) -> None:
    (tmp_path / agent).write_text(AGENT)
    worker = WORKER.format(error=error, waits=600 if status else 0)
    done = subprocess.run(
        [sys.executable, str(tmp_path / agent), worker],
        env={
            "PYTHONPATH": str(repository),
            "TORCHELASTIC_RESTART_COUNT": str(made),
            "TORCHELASTIC_MAX_RESTARTS": "3",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
