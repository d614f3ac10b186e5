from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from condinst.layers.loop_cache import forget_stale


def test_indexes_older_than_any_source_go(tmp_path: Path) -> None:
    kept = tmp_path / "__pycache__"
    kept.mkdir()
    times = {"kernels.py": 100, "types.py": 300, "notes.txt": 900}
    cached = {"kernels.run-1.nbi": 299, "kernels.draw-9.nbi": 300, "kernels.run-1.1.nbc": 200}
    for name, time in times.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    for name, time in cached.items():
        (kept / name).touch()
        os.utime(kept / name, (time, time))
    loop = SimpleNamespace(stats=SimpleNamespace(cache_path=str(kept)))
    forget_stale(loop, tmp_path)
    left = {path.name for path in kept.iterdir()}
    assert left == {"kernels.draw-9.nbi", "kernels.run-1.1.nbc"}


def test_no_cache_yet(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").touch()
    loop = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path / "none")))
    forget_stale(loop, tmp_path)
    assert not (tmp_path / "none").exists()


LOOP = """
import sys
import numpy as np
from condinst.layers.loop_cache import cached_loop

@cached_loop()
def total(values):
    found = values[0]
    for at in range(1, len(values)):
        found += values[at]
    return found

print(total(np.arange(4, dtype=sys.argv[1])), sum(total.stats.cache_misses.values()))
"""


@pytest.mark.slow
def test_one_process_compiles_and_the_others_wait(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(LOOP)

    def start(kind: str) -> subprocess.Popen:
        command = [sys.executable, str(tmp_path / "loop.py"), kind]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
        environment.pop("NUMBA_CACHE_DIR", None)
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def ends(*kinds: str) -> list[str]:
        return [child.communicate()[0].strip() for child in [start(kind) for kind in kinds]]

    at_once = ends("float32", "float32", "float64", "int64")
    assert sorted(at_once) == ["6 1", "6.0 0", "6.0 1", "6.0 1"]  # one of the equal ones loaded
    assert ends("float32", "float64", "int64") == ["6.0 0", "6.0 0", "6 0"]
    kept = {path.suffix for path in (tmp_path / "__pycache__").iterdir()}
    assert kept == {".nbi", ".nbc", ".lock"}
