"""Reads a YAML file as DVC does (YAML 1.2), with each key's line; duplicate keys are faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from condinst.errors import UserError
from condinst.files import yamltext
from condinst.files.bounds import YAML
from condinst.files.text import read_text


@dataclass(frozen=True)
class Document:
    """The content of a file, and the line of each dotted key."""

    value: object
    lines: dict[str, int]


class _Loader(yamltext.Safe):
    """YAML 1.2's core scalars: `no` and `off` are text, `1e-3` is a number."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - PyYAML's own way of declaring them


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(loader.construct_scalar(node)),
)


def read(path: Path) -> Document:
    """Reads one YAML file.

    Raises:
        UserError: If the file is missing or unreadable, is not YAML (the message gives line and
            column), or has a key twice.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is {'a folder' if path.is_dir() else 'missing'}. "
            "Give a params file with --params FILE, or use a ready-made one: "
            "`python cli.py profile list`, then `python cli.py profile use NAME`."
        )
    node = yamltext.compose(read_text(path, YAML), str(path), _Loader)
    if node is None:
        raise UserError(f"{path} is empty. Use a ready-made one: `python cli.py profile use NAME`.")
    lines: dict[str, int] = {}
    twice = list(_index(node, "", lines))
    if twice:
        raise UserError(f"{path} has keys twice, keep one of each: " + "; ".join(twice))
    value = yamltext.construct(node, str(path), _Loader)
    foreign = next(_foreign(value, ""), None)
    if foreign is not None:
        key, kind = foreign
        where = f", line {lines[key]}" if key in lines else ""
        raise UserError(f"{path}{where}: {key} is a {kind}; write numbers, texts, lists, mappings")
    return Document(value, lines)


def _foreign(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Keys of values that YAML tags made and that we do not use: a date, bytes, a set."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _foreign(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield from _foreign(entry, f"{key}[{i}]")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        yield key, type(value).__name__


def _index(node: yaml.Node, key: str, lines: dict[str, int]) -> Iterator[str]:
    """Fills `lines` and yields a description of every key given twice."""
    if isinstance(node, yaml.SequenceNode):
        for i, entry in enumerate(node.value):
            lines[f"{key}[{i}]"] = entry.start_mark.line + 1
            yield from _index(entry, f"{key}[{i}]", lines)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for name_node, value_node in node.value:
        name = str(name_node.value)
        dotted = f"{key}.{name}" if key else name
        line = name_node.start_mark.line + 1
        if name in seen:
            yield f"{dotted} (lines {seen[name]} and {line})"
        seen[name] = lines[dotted] = line
        yield from _index(value_node, dotted, lines)
