"""Free disk space, checked before something large is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from condinst.errors import UserError


def check_space(folder: Path, needed: int, what: str) -> None:
    """Make sure that a disk has enough space.

    Args:
        folder: on the disk; it need not exist yet.
        needed: bytes.
        what: will be written, for the message.

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
    """A number of bytes in readable form."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return (
        f"{count:.0f} {units[0]}" if units[0] == "B" or count >= 100 else f"{count:.1f} {units[0]}"
    )
