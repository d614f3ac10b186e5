"""Ids of any kind as the whole numbers that COCO's tools need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from condinst.data.faults import Ledger, Place

_DIGITS = re.compile(r"-?(0|[1-9]\d{0,17})")


def canonical(value: object) -> int | str | None:
    """A whole number where an id is one in any writing, text for others; None: it is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, str) and value:
        return int(value) if _DIGITS.fullmatch(value) else value
    return None


def check_id(ledger: Ledger, place: Place, value: object) -> int | str:
    """The id of a category or an image in its canonical form.

    Raises:
        Unusable: it is none.
    """
    found = canonical(value)
    if found is None:
        ledger.lost(place, "id unusable", f"its id is {value!r}, must be a whole number or a text")
    if isinstance(value, str):
        ledger.note(place, "id is text", f"its id is the text {value!r}; it gets a number")
    elif isinstance(value, float):
        ledger.harmless(place, "id is a fraction", f"its id is {value!r}, not a whole number")
    elif isinstance(found, str):
        ledger.harmless(place, "id too large", f"its id {found} does not fit into 64 bits")
    return found


def numbers(found: Iterable[int | str]) -> dict[Any, int]:
    """A whole number for each id: itself, or the next that is free, in the order given."""
    found = list(found)
    free = max((value for value in found if isinstance(value, int)), default=0)
    free = max(free, 0)
    result: dict[Any, int] = {}
    for value in found:
        if isinstance(value, int):
            result[value] = value
        elif value not in result:
            free += 1
            result[value] = free
    return result
