"""Every benchmark runs at its smallest size, on an x86 CPU with older instruction sets forced."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks._results import read


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.parametrize("names", [bench.SCRIPTS[::2], bench.SCRIPTS[1::2]])  # two workers' share
def test_every_benchmark_runs_at_its_smallest_size(
    names: tuple[str, ...], tmp_path: Path, repository: Path
) -> None:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    words = ["--smoke", "--threads", "1", "--output", tmp_path, *(["--isa", "avx2"] if x86 else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *names, *words],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.iterdir()
    found = read(path)
    assert tuple(found.benchmarks) == names
    assert found.machine.forced == x86
    assert "AVX-512" not in found.machine.onednn
    for name, taken in found.benchmarks.items():
        assert taken.rows, name
        for row in taken.rows:
            assert row.refused or row.seconds or row.peak is not None, row
