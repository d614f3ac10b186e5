"""Numbers and units as people read them."""

from __future__ import annotations

import datetime as dt
import re

NONE = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def percent(value: float | None, digits: int = 1) -> str:
    """A score in percent; a dash where it is undefined."""
    return NONE if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, a true minus among them."""
    return f"{value:+.{digits}f}".replace("-", _MINUS)


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval of scores."""
    return f"{low:.{digits}f} to {high:.{digits}f}".replace("-", _MINUS)


def signed_span(low: float, high: float, digits: int = 1) -> str:
    """An interval of differences."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def count(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A time span in the two units that matter."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def size(value: float) -> str:
    """Bytes."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} B"


def several(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    if noun.endswith(("s", "x", "ch")):
        plural = noun + "es"
    return f"{count(number)} {noun if number == 1 else plural}"


def typeset(text: str) -> str:
    """Text with true minus signs before numbers."""
    return re.sub(r"(?<![\w.])-(?=\d)", _MINUS, text)


def today() -> str:
    """The moment of writing, in UTC."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
