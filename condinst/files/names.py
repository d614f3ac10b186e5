"""Names and texts that come out of files."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LONE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not tab and line feed


def problem(name: str) -> str | None:
    """What keeps a text from being a path; None where nothing does."""
    if "\0" in name:
        return "holds a character of code 0"
    if _LONE.search(name):
        return "is no text in UTF-8 (half of a surrogate pair)"
    parts = name.replace("\\", "/").split("/")
    if len(name.encode()) > 4000 or any(len(part.encode()) > 255 for part in parts):
        return "is longer than a path can be"
    return None


def expanded(path: str | Path) -> Path:
    """A path with ``~`` written out; the home of a user whom nobody knows stays as it stands."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for such a user


def is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8: no half of a surrogate pair is in it."""
    return _LONE.search(text) is None


def shown(text: str) -> str:
    """A text for the terminal: what would steer it, or cannot be written, as an escape."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def brief(value: object, length: int = 60) -> str:
    """A value of a file in a message, cut to a readable length."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; a whole number of too many digits
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= length else f"{text[: length - 3]}..."
