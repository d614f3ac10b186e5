"""Folders: where stages find them, whole or as they were before, and room for what goes in."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from condinst.errors import UserError

PREPARED = Path("data/prepared")  # what the stage prepare leaves


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place when the block ends well.

    Args:
        target: made or replaced; as it was before when the block raises.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    former = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            target.rename(former)
        try:
            fresh.rename(target)
        except OSError:
            if former.exists():
                former.rename(target)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Make sure that a disk has room.

    Args:
        folder: on the disk; it need not be there yet.
        needed: bytes.
        what: is to be written, for the message.

    Raises:
        UserError: there is less.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{what} needs {human_bytes(needed)} in {folder}, where {human_bytes(free)} are free; "
            f"make room for {human_bytes(needed - free)}, or put the folder on another disk"
        )


def human_bytes(count: float) -> str:
    """A number of bytes as people write it."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return (
        f"{count:.0f} {units[0]}" if units[0] == "B" or count >= 100 else f"{count:.1f} {units[0]}"
    )
