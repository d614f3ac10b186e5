"""Merging YAML files and KEY VALUE pairs into a config, reporting all errors of a file together.

Unlike yacs, integers fit float keys, numbers may be strings, and the error for an unknown key
suggests the nearest one.
"""

from __future__ import annotations

import difflib
import os
from ast import literal_eval
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from condinst.errors import UserError
from condinst.files import names, yamltext

Tree = dict[str, Any]
_RESERVED = {"_BASE_", "VERSION"}
_BASES = 16  # longest chain of _BASE_ files
_LONG = 100  # letters of a name to compare with known ones, at quadratic cost


def read_yaml(path: Path) -> Tree:
    """A YAML file with its ``_BASE_`` merged under it.

    Raises:
        UserError: the file does not exist, or it or a base is not YAML with keys.
    """
    if not path.is_file():
        raise UserError(f"config file {str(path)!r} does not exist: give the path of a YAML recipe")
    tree = _with_base(path, ())
    if tree.get("VERSION", 2) != 2:
        raise UserError(
            f"config file {str(path)!r}: VERSION {tree['VERSION']}, expected 2: "
            "rename its keys to the current ones"
        )
    return tree


def _with_base(path: Path, above: tuple[Path, ...]) -> Tree:
    """A file's keys merged over those of its chain of bases.

    Args:
        path: the file.
        above: files whose ``_BASE_`` led here.
    """
    tree = yamltext.read(path)
    if not isinstance(tree, dict):
        raise UserError(f"config file {str(path)!r} has no keys: expected sections such as MODEL:")
    base = tree.pop("_BASE_", None)
    if base is None:
        return tree
    if not isinstance(base, str) or not base or "://" in base or names.problem(base):
        expected = "expected the path of another YAML file"
        raise UserError(f"config file {str(path)!r}: _BASE_ is {names.brief(base)}, {expected}")
    under = Path(os.path.normpath(path.parent / names.expanded(base)))
    if under in (path, *above) or len(above) >= _BASES:
        raise UserError(f"config file {str(path)!r}: _BASE_ {base!r} leads back to itself")
    return _over(_with_base(under, (*above, path)), tree)


def _over(base: Tree, tree: Tree) -> Tree:
    """Merge sections; take everything else from the second."""
    merged = dict(base)
    for key, value in tree.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def value_of(tree: Tree, key: str) -> Any:
    """The value at a dotted key, or None."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def without(given: Tree, names: Collection[str], prefix: str = "") -> tuple[Tree, list[str]]:
    """Remove some of the nested keys.

    Args:
        given: nested keys.
        names: dotted names of keys and sections; a section includes all below it.
        prefix: the section's dotted name, with a dot at the end.

    Returns:
        What is left, and those of ``names`` that were there.
    """
    left, found = {}, []
    for key, value in given.items():
        if f"{prefix}{key}" in names:
            found.append(f"{prefix}{key}")
        elif isinstance(value, dict):
            left[key], more = without(value, names, f"{prefix}{key}.")
            found += more
        else:
            left[key] = value
    return left, found


def overrides_without(given: list[str], names: Collection[str]) -> tuple[list[str], list[str]]:
    """The same for ``[KEY, VALUE, KEY, VALUE, ...]``."""
    left, found = [], []
    for start in range(0, len(given), 2):
        key = str(given[start])
        ignored = [x for x in names if key == x or key.startswith(f"{x}.")]
        found += ignored
        left += [] if ignored else given[start : start + 2]
    return left, found


def merge_tree(cfg: CfgNode, tree: Tree, problems: list[str], prefix: str = "") -> None:
    """Merge nested keys into ``cfg``; errors are appended to ``problems`` and the rest is merged.

    Args:
        cfg: the section to change, in place.
        tree: its new values.
        problems: receives the errors, one line each.
        prefix: the section's dotted name, with a dot at the end.
    """
    for key, value in tree.items():
        if not prefix and key in _RESERVED:
            continue
        name = f"{prefix}{key}"
        if key not in cfg:
            if cfg.is_new_allowed():
                cfg[key] = value
            else:
                problems.append(unknown_key(cfg, name, prefix))
        elif isinstance(cfg[key], CfgNode):
            if isinstance(value, dict):
                merge_tree(cfg[key], value, problems, f"{name}.")
            else:
                problems.append(
                    f"{name} is a section, got {names.brief(value)}: set one of its keys"
                )
        else:
            _set(cfg, key, value, name, problems)


def merge_overrides(cfg: CfgNode, overrides: list[str], problems: list[str]) -> None:
    """Merge ``[KEY, VALUE, KEY, VALUE, ...]`` into ``cfg``; errors as in `merge_tree`."""
    if len(overrides) % 2:
        problems.append(
            f"overrides must be KEY VALUE pairs, got {len(overrides)} words: {overrides}"
        )
        return
    for name, value in zip(overrides[0::2], overrides[1::2], strict=True):
        *sections, key = str(name).split(".")
        node: Any = cfg
        for section in sections:
            node = node.get(section) if isinstance(node, CfgNode) else None
        if not isinstance(node, CfgNode) or (key not in node and not node.is_new_allowed()):
            problems.append(unknown_key(cfg, str(name), ""))
        elif isinstance(node.get(key), CfgNode):
            problems.append(f"{name} is a section, got {names.brief(value)}: set one of its keys")
        else:
            _set(node, key, value, str(name), problems)


def unknown_key(cfg: CfgNode, name: str, prefix: str) -> str:
    """The message for an unknown key, with the nearest one.

    Args:
        cfg: the config or section to look in.
        name: the dotted key.
        prefix: dotted name of that section, with a dot at the end; empty for the whole config.
    """
    known = [prefix + key for key in _dotted(cfg)]
    folded = {key.lower(): key for key in known}
    near = difflib.get_close_matches(name.lower()[:_LONG], list(folded), n=1, cutoff=0.5)
    hint = f": did you mean {folded[near[0]]}?" if near else ""
    return f"unknown key {name[:_LONG]}{hint}"


def _dotted(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in cfg.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from _dotted(value, f"{prefix}{key}.")


def _set(cfg: CfgNode, key: str, value: Any, name: str, problems: list[str]) -> None:
    old = cfg.get(key)
    try:
        cfg[key] = _fit(value, old)
    except (TypeError, ValueError, OverflowError):
        kind = type(old).__name__
        problems.append(
            f"{name} = {names.brief(value)} does not fit: expected a {kind} such as {old!r}"
        )


def _fit(value: Any, old: Any) -> Any:
    """``value`` in the type of ``old``.

    Raises:
        TypeError: information would be lost; ValueError and OverflowError likewise.
    """
    if isinstance(value, str) and not isinstance(old, str):
        value = _decode(value)
    if old is None or value is None or type(value) is type(old):
        return value
    if isinstance(old, bool) or isinstance(value, bool):
        raise TypeError
    if isinstance(old, float) and isinstance(value, int):
        return float(value)
    if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
        return type(old)(value)
    if isinstance(old, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    raise TypeError


def _decode(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # nested too deep for it
        return text
