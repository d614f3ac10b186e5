"""numba's cache of compiled loops, for several processes and several source files."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numba
from numba.core.caching import FunctionCache


def cached_loop(**options: Any) -> Callable[[Callable], Any]:
    """`numba.njit` with a cache on disk that processes share: one compiles, the others wait.

    Without the wait, each of a training's processes would compile the same loop; and of two that
    compile a loop for different types at once, one could later load the other's.

    Args:
        options: of `numba.njit`.
    """

    def compiled(function: Callable) -> Any:
        loop = numba.njit(**options)(function)
        loop._cache = _SharedCache(function)
        return loop

    return compiled


class _SharedCache(FunctionCache):
    """Holds a lock from a miss until the result is saved; the kernel frees it if a process dies."""

    _lock: IO | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None and self._lock is None:
            with suppress(OSError):  # a file system without locks
                self._impl.locator.ensure_cache_path()
                name = f"{self._impl.filename_base}.lock"
                self._lock = Path(self._cache_path, name).open("a")  # noqa: SIM115  # held on
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            found = super().load_overload(sig, target_context)
            if found is not None:
                self._release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def forget_stale(loop: Any, sources: Path) -> None:
    """Delete what was compiled before a source changed; it is compiled again when called.

    numba only checks the time of a loop's own file. It would keep using the old version of a
    function from another file, and raises an AttributeError if an argument's class is gone.

    Args:
        loop: any of the folder's cached loops; they are kept in one place.
        sources: the folder of the loops and of everything they are built from.
    """
    newest = max(path.stat().st_mtime for path in sources.glob("*.py"))
    for index in Path(loop.stats.cache_path).glob("*.nbi"):
        with suppress(OSError):  # another process was first, or deleting is not allowed
            if index.stat().st_mtime < newest:
                index.unlink()
