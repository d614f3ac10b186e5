"""Turns plain YAML values into frozen dataclasses and collects all faults.

A dataclass field made by `setting` carries its range or its allowed values; `read` walks the type
hints. Nothing is raised before the whole tree has been checked, so a user sees all faults at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

_MISSING = dataclasses.MISSING
_LARGEST = 1e300
_LONG = 100  # letters of a word to compare with known ones, at quadratic cost


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a field allows beyond its type.

    Attributes:
        minimum: Smallest value allowed.
        above: The value must be greater than this.
        maximum: Largest value allowed.
        below: The value must be less than this.
        choices: The allowed values; empty for any.
        filled: Whether empty strings, lists and mappings are faults.
        nullable: Whether null is allowed as well; set from the type hint.
    """

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    filled: bool = True
    nullable: bool = False

    def describe(self, kind: str) -> str:
        """Describes in words what is allowed, e.g. `an integer of at least 1`."""
        null = ", or null" if self.nullable else ""
        if self.choices:
            return "one of " + ", ".join(self.choices) + null
        bounds = [
            ("of at least {}", self.minimum),
            ("above {}", self.above),
            ("of at most {}", self.maximum),
            ("below {}", self.below),
        ]
        words = " and ".join(
            text.format(_number(bound)) for text, bound in bounds if bound is not None
        )
        return (f"{kind} {words}" if words else kind) + null

    def admits(self, value: float) -> bool:
        """Whether a number lies in the range; NaN and infinities never do."""
        return (
            abs(value) <= _LARGEST  # false for NaN and infinity
            and (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )


@dataclasses.dataclass(frozen=True)
class KeyFault:
    """One problem with one key; `key` is dotted, empty for the whole file."""

    key: str
    problem: str


def setting(default: Any = _MISSING, **rule: Any) -> Any:
    """Declares a dataclass field with a `Rule`; without a default the key must be given."""
    return dataclasses.field(default=default, metadata={"rule": Rule(**rule)})


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def nearest(word: str, known: Collection[str], prefix: str = "") -> str:
    """The most similar known word as ` (did you mean X?)`; empty if none is similar.

    Args:
        word: What was written.
        known: What could be meant.
        prefix: Put before the suggestion.
    """
    word = word[:_LONG]
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not near:
        upper = {name.upper(): name for name in known}
        near = [upper[k] for k in difflib.get_close_matches(word.upper(), list(upper), n=1)]
    return f" (did you mean {prefix}{near[0]}?)" if near else ""


def join(key: str, name: object) -> str:
    """The dotted key of a member."""
    return f"{key}.{name}" if key else str(name)


def read(
    hint: Any,
    value: object,
    key: str,
    faults: list[KeyFault],
    rule: Rule | None = None,
) -> Any:
    """Reads a plain value as the type of a hint.

    Args:
        hint: A type hint: scalar, dataclass, `tuple[T, ...]`, `Mapping[str, T]`, `T | None`
            or `Any`.
        value: The value in the YAML file.
        key: Its dotted key, for messages.
        faults: Faults are appended here.
        rule: Range or choices of the field.

    Returns:
        The value read; unusable if a fault was found.
    """
    rule = rule or Rule()
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        if value is None:
            return None
        (hint,) = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return read(hint, value, key, faults, dataclasses.replace(rule, nullable=True))
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(hint, value, key, faults)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _read_list(typing.get_args(hint)[0], value, key, faults, rule)
    if origin is Mapping:
        return _read_mapping(typing.get_args(hint)[1], value, key, faults, rule)
    return _read_scalar(hint, value, key, faults, rule)


def show(value: object) -> str:
    """A value as YAML would write it, cut to a readable length."""
    names: dict[object, str] = {None: "null", True: "true", False: "false"}
    text = names[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_scalar(hint: Any, value: object, key: str, faults: list[KeyFault], rule: Rule) -> object:
    kinds = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    fits = {
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, (int, float)) and not isinstance(value, bool),
        bool: isinstance(value, bool),
        str: isinstance(value, str),
    }
    good, near = fits[hint], ""
    if good and not isinstance(value, (bool, str)):
        assert isinstance(value, (int, float)), value
        good = rule.admits(value)
        value = float(value) if hint is float and good else value
    elif good and isinstance(value, str):
        good = value in rule.choices if rule.choices else bool(value) or not rule.filled
        near = nearest(value, rule.choices) if rule.choices and not good else ""
    if not good:
        allowed = rule.describe(kinds[hint])
        faults.append(KeyFault(key, f"is {show(value)}, must be {allowed}{near}"))
    return value


def _read_list(
    hint: Any, value: object, key: str, faults: list[KeyFault], rule: Rule
) -> tuple[Any, ...]:
    if not isinstance(value, list) or (rule.filled and not value):
        faults.append(KeyFault(key, f"is {show(value)}, must be a list with at least one entry"))
        return ()
    return tuple(read(hint, entry, f"{key}[{i}]", faults, rule) for i, entry in enumerate(value))


def _read_mapping(
    hint: Any,
    value: object,
    key: str,
    faults: list[KeyFault],
    rule: Rule,
) -> dict[str, Any]:
    if not isinstance(value, dict) or (rule.filled and not value):
        filled = " with at least one entry" if rule.filled else ""
        faults.append(KeyFault(key, f"is {show(value)}, must be a mapping (key: value){filled}"))
        return {}
    for name in value:
        if not isinstance(name, str):
            faults.append(KeyFault(join(key, name), "the name is not text; put it in quotes"))
    inner = Rule(filled=False)
    return {
        str(name): read(hint, entry, join(key, name), faults, inner)
        for name, entry in value.items()
    }


def _read_dataclass(cls: Any, value: object, key: str, faults: list[KeyFault]) -> object:
    if not isinstance(value, dict):
        names = ", ".join(field.name for field in dataclasses.fields(cls))
        faults.append(KeyFault(key, f"is {show(value)}, must be a mapping with the keys {names}"))
        return None
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in value:
        if name not in fields:
            near = nearest(str(name), fields, join(key, "")) or f" (known: {', '.join(fields)})"
            faults.append(KeyFault(join(key, name), f"is not a known key{near}"))
    read_values = {}
    for name, field in fields.items():
        if name in value:
            rule = field.metadata.get("rule")
            read_values[name] = read(hints[name], value[name], join(key, name), faults, rule)
        elif field.default is _MISSING and field.default_factory is _MISSING:
            faults.append(KeyFault(join(key, name), "is missing; add it"))
            read_values[name] = None
    return cls(**read_values)
