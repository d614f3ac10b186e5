"""JSON from outside."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from condinst.files.bounds import DEPTH, JSON
from condinst.files.text import read_bytes

_BRACKETS = b"[]{}"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_SIGNS = bytes(1 if code in b"[{" else 255 for code in range(256))  # 255 is -1


def read(path: Path, kind: str = "JSON") -> Any:
    """The value in a file.

    Raises:
        UserError: as `parse`, or the file does not exist.
    """
    return parse(read_bytes(path, JSON), str(path), kind)


def parse(text: bytes, place: str, kind: str = "JSON") -> Any:
    """The value of a text, as Python's own parser reads it.

    Args:
        text: the JSON.
        place: its file, for messages.
        kind: what it should be, for messages.

    Raises:
        UserError: it is not JSON, is cut off, is nested too deeply or would take too much memory.
    """
    weight = memory(text)
    JSON.require(weight, place, f"would take about {weight:,} bytes of memory")
    try:
        check_depth(text, place)
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.strip() and _cut_off(error):
            raise UserError(
                f"{place} is cut off: the JSON ends in the middle of something, after "
                f"{len(text):,} bytes; copy or download it again"
            ) from error
        raise UserError(f"{place} is not {kind}: {error}") from error
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not {kind}: it is not UTF-8 ({error})") from error
    except ValueError as error:  # more digits than Python reads
        raise UserError(f"{place} is not {kind}: {str(error).partition(';')[0]}") from error
    except RecursionError as error:
        raise UserError(_too_deep(place)) from error


def memory(text: bytes) -> int:
    """About how many bytes a JSON takes while being read and as Python values."""
    lists, mappings, values = (text.count(mark) for mark in (b"[", b"{", b","))
    return 2 * len(text) + 64 * lists + 184 * mappings + 32 * values


def check_depth(text: bytes, place: str) -> None:
    """Refuse lists and mappings nested deeper than ``bounds.DEPTH``, before parsing.

    Args:
        text: a JSON or whole elements of one.
        place: for the message.

    Raises:
        UserError: they are nested too deeply.
    """
    if depth(text) > DEPTH:
        raise UserError(_too_deep(place))


def depth(text: bytes) -> int:
    """Nesting depth of lists and mappings in valid JSON; 0 without any."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(text.split(b'"')[::2])
    brackets = outside.translate(_SIGNS, _OTHERS)
    if len(brackets) <= DEPTH:
        return max(accumulate(1 if sign == 1 else -1 for sign in brackets), default=0)
    import numpy as np

    return int(np.frombuffer(brackets, np.int8).cumsum(dtype=np.int64).max())


def _too_deep(place: str) -> str:
    return f"{place} has lists or mappings nested more than {DEPTH} deep; COCO needs 5"


def _cut_off(error: json.JSONDecodeError) -> bool:
    """Whether a text is valid as far as it goes."""
    rest = error.doc[error.pos :].strip()
    begun = any(word.startswith(rest) for word in ("true", "false", "null", "NaN", "-"))
    return begun or error.msg.startswith("Unterminated string")
