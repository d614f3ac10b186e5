from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

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
