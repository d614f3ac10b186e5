"""YAML from outside, bounded before it is built.

A few lines of YAML can expand to gigabytes if aliases name lists of aliases, so the values of a
document are first counted from its events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from condinst.errors import UserError
from condinst.files import names
from condinst.files.bounds import DEPTH, YAML
from condinst.files.text import read_text

_MOST = 200_000  # values with aliases expanded
Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, loader: Any = Safe) -> Any:
    """The value in a file; None for an empty one.

    Raises:
        UserError: as `load`, or the file does not exist.
    """
    return load(read_text(path, YAML), str(path), loader)


def load(text: str, place: str, loader: Any = Safe) -> Any:
    """The value of a text.

    Args:
        text: the YAML.
        place: its file, for messages.
        loader: one of PyYAML's safe ones.

    Raises:
        UserError: it is not YAML, not plain data, too large, too deeply nested or not Unicode.
    """
    node = compose(text, place, loader)
    return None if node is None else construct(node, place, loader)


def compose(text: str, place: str, loader: Any) -> yaml.Node | None:
    """The nodes of a text, few enough to walk through; None for an empty one.

    Raises:
        UserError: as `load`.
    """
    try:
        _check_events(text, place)
        return yaml.compose(text, loader)
    except yaml.YAMLError as error:
        raise UserError(described(error, place)) from error


def construct(node: yaml.Node, place: str, loader: Any) -> Any:
    """The value of nodes.

    Raises:
        UserError: as `load`.
    """
    builder = loader("")
    try:
        return builder.construct_document(node)
    except yaml.YAMLError as error:
        raise UserError(described(error, place)) from error
    except Exception as error:  # a date of month 13, a number of 5,000 digits
        raise UserError(
            f"{place} has a value that YAML cannot represent: {str(error).partition(';')[0]}"
        ) from error
    finally:
        builder.dispose()


def described(error: yaml.YAMLError, place: str) -> str:
    """What is wrong with a YAML text, with line and column if known."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return f"{place} is not valid YAML: {names.shown(str(error))}"
    reason = getattr(error, "problem", None) or getattr(error, "context", None)
    return f"{place} is not valid YAML, line {mark.line + 1}, column {mark.column + 1}: {reason}"


def _check_events(text: str, place: str) -> None:
    """Bound depth and number of values, and refuse what cannot be a value or path."""
    open_nodes: list[list[Any]] = [[None, 0]]  # name and size of those not yet closed
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Safe):
        where = f"{place}, line {event.start_mark.line + 1}:" if event.start_mark else f"{place}:"
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
            if event.anchor is not None:
                sizes.pop(event.anchor, None)
            if len(open_nodes) > DEPTH:
                raise UserError(f"{where} lists or mappings nested more than {DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            open_nodes[-1][1] += size
            if anchor is not None:
                sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value or not names.is_unicode(event.value):
                raise UserError(f"{where} {event.value[:40]!r} has characters that are not text")
            open_nodes[-1][1] += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise UserError(f"{where} *{event.anchor} is used inside its own anchor")
            open_nodes[-1][1] += sizes.get(event.anchor, 1)
        if open_nodes[-1][1] > _MOST:
            raise UserError(f"{where} more than {_MOST:,} values once each *NAME is expanded")
