"""Unpacking untrusted zip archives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from condinst.errors import UserError
from condinst.files import zips


def unpack(
    archive: Path,
    target: Path,
    names: Sequence[str] | None = None,
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Unpack an archive below a folder and nowhere else; files of the same size are kept.

    Args:
        archive: a zip file.
        target: created if missing.
        names: members to unpack; None: all files.
        advance: called with the size of each file in bytes.

    Returns:
        Number of files.

    Raises:
        UserError: it is not a complete zip, lacks a member, or has a refused one (see
            :func:`condinst.files.zips.opened`); then nothing is written.
    """
    with zips.opened(archive, "a zip archive") as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
        if names is not None:
            wanted = set(names)
            members = [member for member in members if member.filename in wanted]
            lacking = wanted - {member.filename for member in members}
            if lacking:
                raise UserError(f"{archive} does not contain {', '.join(sorted(lacking))}")
        for member in members:
            path = target / member.filename
            if not (path.is_file() and path.stat().st_size == member.file_size):
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, path.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            advance(member.file_size)
        return len(members)
