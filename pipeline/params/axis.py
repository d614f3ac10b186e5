"""The number that a study varies, if it varies exactly one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from pipeline.params.schema import KeyFault, show
from pipeline.params.sections import Ablation

FEWEST = 3  # values needed for a curve


@dataclass(frozen=True)
class Axis:
    """A number that differs from variant to variant.

    Attributes:
        key: the key that the variants change.
        values: one per variant, in the study's order.
    """

    key: str
    values: Mapping[str, float]


def find_axis(study: Ablation) -> Axis | None:
    """The study's `axis`, or the only key that differs; None if there is no such number."""
    key = study.axis or _only_difference(study)
    if key is None:
        return None
    numbers: dict[str, float] = {}
    for name, changes in study.variants.items():
        value: Any = changes.get(key)
        if _is_number(value):
            numbers[name] = value
    if len(numbers) < len(study.variants) or len(set(numbers.values())) < FEWEST:
        return None
    return Axis(key, numbers)


def check_axis(study: Ablation, key: str) -> Iterator[KeyFault]:
    """Faults of a declared axis.

    Args:
        study: with its grid expanded.
        key: its dotted key.
    """
    if study.axis is None:
        return
    for name, changes in study.variants.items():
        if not _is_number(changes.get(study.axis)):
            value = show(changes[study.axis]) if study.axis in changes else "not set"
            yield KeyFault(
                f"{key}.axis",
                f"is {study.axis}, which is {value} in variant {name}; every variant must give it "
                "a number, or set axis to null",
            )
    if len({show(changes.get(study.axis)) for changes in study.variants.values()}) < FEWEST:
        yield KeyFault(
            f"{key}.axis", f"is {study.axis}, which takes fewer than {FEWEST} values: no curve"
        )


def _only_difference(study: Ablation) -> str | None:
    keys = dict.fromkeys(key for changes in study.variants.values() for key in changes)
    missing = object()
    differing = [
        key
        for key in keys
        if len({repr(changes.get(key, missing)) for changes in study.variants.values()}) > 1
    ]
    return differing[0] if len(differing) == 1 else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
