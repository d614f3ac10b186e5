"""Unpacking zip archives that are not trusted."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from condinst.errors import UserError


def unpack(
    archive: Path,
    target: Path,
    names: Sequence[str] | None = None,
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Write an archive's files below a folder and nowhere else; files of the same size are left.

    Args:
        archive: a zip.
        target: made if missing.
        names: members to take; None: all files.
        advance: told the bytes of each file.

    Returns:
        Number of files.

    Raises:
        UserError: it is no whole zip, lacks a member, or one would leave the folder; then nothing
            is written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if names is not None:
                members = [member for member in members if member.filename in set(names)]
                lacking = set(names) - {member.filename for member in members}
                if lacking:
                    raise UserError(f"{archive} lacks {', '.join(sorted(lacking))}")
            for member in members:
                _check(member, archive)
            for member in members:
                path = target / member.filename
                if not (path.is_file() and path.stat().st_size == member.file_size):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(member) as source, path.open("wb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
                advance(member.file_size)
            return len(members)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{archive} is damaged ({error}); delete it to fetch it again") from error


def _check(member: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    kind = stat.S_IFMT(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(f"{archive} is refused: its member {member.filename!r} leaves the folder")
    if kind not in (0, stat.S_IFREG):
        raise UserError(f"{archive} is refused: its member {member.filename!r} is no plain file")
