"""Texts from outside."""

from __future__ import annotations

from pathlib import Path

from condinst.errors import UserError
from condinst.files.bounds import TEXT, Bound


def read_bytes(path: Path, bound: Bound = TEXT) -> bytes:
    """A file's content.

    Raises:
        UserError: it is missing, a folder, unreadable, or larger than the bound.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            bound.require(size, str(path), f"has {size:,} bytes")
            file.seek(0)
            return file.read()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not a file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{str(path)!r} cannot be read: {reason}") from error


def read_text(path: Path, bound: Bound = TEXT) -> str:
    """A UTF-8 text, with or without a byte order mark; line ends become line feeds.

    Raises:
        UserError: as `read_bytes`, or it is not UTF-8.
    """
    try:
        text = read_bytes(path, bound).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
