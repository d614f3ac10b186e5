"""Kills at any moment cost nothing; benchmarks/kills_train.py has the whole table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_trainings_end_with_the_same_weights(repository: Path) -> None:
    # in a process of its own: it forks, which OpenMP's threads of other tests would not survive
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills_train", "--kills", "4", "--seed", "1"],
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("yes") == 2  # one process, and two
