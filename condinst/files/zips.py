"""Zip archives from outside."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from condinst.errors import UserError
from condinst.files import names

_RATIO = 200  # text shrinks to a twentieth; a bomb to a thousandth
_SMALL = 64 << 20  # bytes below which the ratio does not matter
_ENCRYPTED = 1


@contextmanager
def opened(path: Path, kind: str = "a zip archive") -> Iterator[zipfile.ZipFile]:
    """Open an archive whose list of members was read and found harmless.

    Whatever a damaged archive makes Python raise within the block becomes a UserError, so keep
    only code in it that reads the archive.

    Args:
        path: of the archive.
        kind: what it should be, for messages.

    Raises:
        UserError: it is missing or damaged, or a member would leave the folder, is encrypted or not
            a plain file, or all members would inflate more than real files do.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > max(_SMALL, _RATIO * path.stat().st_size):
                raise UserError(
                    f"{path} is refused: its {path.stat().st_size:,} bytes would unpack to "
                    f"{total:,}, more than real data would"
                )
            for member in archive.infolist():
                if (reason := _problem(member)) is not None:
                    raise UserError(f"{path} is refused: its member {member.filename!r} {reason}")
            yield archive
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except KeyError as error:
        raise UserError(f"{path} is not {kind}: {error.args[0]}") from error
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise  # from writing, not from the archive
        raise UserError(f"{path} is not {kind}, or is damaged: {error}") from error
    except Exception as error:
        raise UserError(f"{path} is not {kind}, or is damaged: {error}") from error


def _problem(member: zipfile.ZipInfo) -> str | None:
    """Why a member is not unpacked; None if it is."""
    name = member.filename.replace("\\", "/")
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return "leaves the folder"
    if (reason := names.problem(name)) is not None:
        return reason
    if kind not in (0, stat.S_IFREG) and not (member.is_dir() and kind == stat.S_IFDIR):
        return "is not a plain file"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return None
