"""numba's cache of compiled loops, made to know all the files that they come from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any


def forget_stale(loop: Any, sources: Path) -> None:
    """Throw away what was compiled before a source changed; it is compiled again when called.

    numba looks at the time of a loop's own file alone. It would go on with what a function of
    another file was, and raises an AttributeError where the class of an argument has gone.

    Args:
        loop: any of the folder's cached loops; they are kept in one place.
        sources: the folder of the loops and of all that they are made of.
    """
    newest = max(path.stat().st_mtime for path in sources.glob("*.py"))
    for index in Path(loop.stats.cache_path).glob("*.nbi"):
        with suppress(OSError):  # another process was first, or may not be deleted
            if index.stat().st_mtime < newest:
                index.unlink()
