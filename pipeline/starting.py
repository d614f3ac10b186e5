"""Quick starts: the garbage collector rests while heavy libraries are imported."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For the imports inside: make no search for garbage in what they leave, now or ever.

    torch, detectron2 and MLflow leave a million objects that live as long as the process.
    Searching these again and again on the way, and all once more at the end, takes a third of a
    start that imports them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
