"""Names that MLflow accepts; does not need MLflow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_LONGEST = 250
_MARK = 9  # characters of a space and a digest
# It accepts letters and digits of any script and these; a colon only where paths may have one.
_OTHER = re.compile(r"[^/\w.\- :]")


def clean(name: str) -> str:
    """The name with ``_`` for what MLflow does not accept, cut to the length it accepts.

    It requires names to be normalised paths: no empty part, no ``.`` or ``..``.
    """
    name = _OTHER.sub("_", name)
    parts = [
        "_" * max(len(part), 1) if part in ("", ".", "..") else part for part in name.split("/")
    ]
    name = "/".join(parts)
    return name if len(name) <= _LONGEST else _marked(name, name)


def clean_all(names: Iterable[str]) -> dict[str, str]:
    """Each name's clean form; if two would collide, the second gets a distinguishing mark."""
    names = list(dict.fromkeys(names))
    found = {name: name for name in names if clean(name) == name}
    taken = set(found)
    for name in names:
        if name not in found:
            short = clean(name)
            found[name] = _marked(short, name) if short in taken else short
            taken.add(found[name])
    return found


def _marked(short: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{short[: _LONGEST - _MARK]}_{digest[: _MARK - 1]}"
