"""Ids of any kind as the whole numbers that COCO's tools need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from condinst.files.names import brief

if TYPE_CHECKING:
    from condinst.annotations.faults import Ledger, Place

_DIGITS = re.compile(r"-?(0|[1-9]\d{0,17})")


def canonical(value: object) -> int | str | None:
    """A whole number where an id is one in any writing, text for others; None: it is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, int):
        return value
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
        ledger.lost(
            place, "id unusable", f"its id is {brief(value)}, must be a whole number or a text"
        )
    if isinstance(value, str):
        ledger.note(place, "id is text", f"its id is the text {brief(value)}; it gets a number")
    elif isinstance(value, float):
        ledger.harmless(place, "id is a fraction", f"its id is {value!r}, not a whole number")
    elif not usable(found):
        negative = isinstance(found, int) and found < 0
        kind = "id is negative" if negative else "id too large"
        reason = "" if negative else ", which is too large for numbers that are exact in all tools"
        ledger.harmless(place, kind, f"its id is {brief(found)}{reason}; it gets a number")
    return found


def usable(value: int | str) -> bool:
    """Whether all evaluators take an id as it is: some want none below 0, some use floats."""
    return isinstance(value, int) and 0 <= value < 2**53


def numbers(found: Iterable[int | str]) -> dict[Any, int]:
    """A whole number for each id, all different: itself, or the next that is free, in order."""
    found = list(found)
    result: dict[Any, int] = {value: int(value) for value in found if usable(value)}
    free = max(result, default=0)
    others = (value for value in found if value not in result)
    return result | {value: free + k for k, value in enumerate(others, start=1)}
