"""Makes numba's cache of compiled loops aware of all their source files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any


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
