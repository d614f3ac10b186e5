"""YAML from outside, bounded before it is built.

A few lines of YAML stand for gigabytes where aliases name lists of aliases, so what a document
would hold is counted over its events first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from condinst.errors import UserError
from condinst.files import names
from condinst.files.bounds import DEPTH, YAML
from condinst.files.text import read_text

_MOST = 200_000  # values with aliases written out
Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, loader: Any = Safe) -> Any:
    """The value that a file holds; None for an empty one.

    Raises:
        UserError: as `load`, or there is no such file.
    """
    return load(read_text(path, YAML), str(path), loader)


def load(text: str, place: str, loader: Any = Safe) -> Any:
    """The value that a text stands for.

    Args:
        text: the YAML.
        place: its file, for messages.
        loader: one of PyYAML's safe ones.

    Raises:
        UserError: it is none, holds no plain data, or is too large, too deep or no Unicode.
    """
    node = compose(text, place, loader)
    return None if node is None else construct(node, place, loader)


def compose(text: str, place: str, loader: Any) -> yaml.Node | None:
    """The nodes of a text, few enough to be walked through; None for an empty one.

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
            f"{place} holds a value that YAML cannot stand for: {str(error).partition(';')[0]}"
        ) from error
    finally:
        builder.dispose()


def described(error: yaml.YAMLError, place: str) -> str:
    """What is wrong with a YAML, with line and column where they are known."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return f"{place} is no valid YAML: {names.shown(str(error))}"
    reason = getattr(error, "problem", None) or getattr(error, "context", None)
    return f"{place} is no valid YAML, line {mark.line + 1}, column {mark.column + 1}: {reason}"


def _check_events(text: str, place: str) -> None:
    """Bound depth and number of values, and refuse what no value or path can be."""
    open_nodes: list[list[Any]] = [[None, 0]]  # name and size of those not yet closed
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Safe):
        where = f"{place}, line {event.start_mark.line + 1}:" if event.start_mark else f"{place}:"
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
            if event.anchor is not None:
                sizes.pop(event.anchor, None)
            if len(open_nodes) > DEPTH:
                raise UserError(f"{where} lists or mappings more than {DEPTH} deep in each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            open_nodes[-1][1] += size
            if anchor is not None:
                sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value or not names.is_unicode(event.value):
                raise UserError(f"{where} {event.value[:40]!r} holds what no text can")
            open_nodes[-1][1] += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise UserError(f"{where} *{event.anchor} stands within what it stands for")
            open_nodes[-1][1] += sizes.get(event.anchor, 1)
        if open_nodes[-1][1] > _MOST:
            raise UserError(
                f"{where} more than {_MOST:,} values, with what *NAME stands for written out"
            )
