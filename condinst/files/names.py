"""Names and texts read from files."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LONE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not tab and line feed


def problem(name: str) -> str | None:
    """Why a text cannot be a path; None if it can."""
    if "\0" in name:
        return "contains a character with code 0"
    if _LONE.search(name):
        return "is not UTF-8 text (half of a surrogate pair)"
    parts = name.replace("\\", "/").split("/")
    if len(name.encode()) > 4000 or any(len(part.encode()) > 255 for part in parts):
        return "is longer than a path can be"
    return None


def expanded(path: str | Path) -> Path:
    """A path with ``~`` expanded; the home of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for such a user


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it has no half of a surrogate pair."""
    return _LONE.search(text) is None


def shown(text: str) -> str:
    """A text for the terminal: control characters and unencodable ones are escaped."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def brief(value: object, length: int = 60) -> str:
    """A value from a file for a message, cut to a readable length."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an integer with too many digits
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= length else f"{text[: length - 3]}..."
