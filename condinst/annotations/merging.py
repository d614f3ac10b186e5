"""Images that are listed more than once: one entry an id, a file, a content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from condinst.annotations.faults import Ledger, Place, Unusable
from condinst.annotations.ids import canonical

Entry = dict[str, Any]


def single(
    found: Mapping[Any, list[tuple[Place, Entry]]],
    lost: dict[Any, str],
    ledger: Ledger,
) -> dict[Any, tuple[Place, Entry]]:
    """One image an id: none where two pictures have the same.

    Args:
        found: entries by their id in its canonical form.
        lost: gets why some are left out.
        ledger: gets what is wrong.
    """
    kept = {}
    for key, entries in found.items():
        names = list(dict.fromkeys(given["file_name"] for _, given in entries))
        for at, _ in entries[1:] if len(names) == 1 else entries:
            if len(names) == 1:
                ledger.harmless(at, "image listed twice", "it is listed before")
                continue
            reason = f"{' and '.join(names[:3])} share its id: whose annotations are whose?"
            try:
                ledger.lost(at, "images share an id", reason)
            except Unusable:
                lost[key] = "shared"
        if len(names) == 1:
            kept[key] = entries[0]
    return kept


def of_one_file(
    kept: list[tuple[Place, Entry]], numbered: dict[Any, int], ledger: Ledger
) -> list[tuple[Place, Entry]]:
    """One image a file: annotations of others with the same file become its own.

    Args:
        kept: images with the numbers that are their ids.
        numbered: number by id; changed.
        ledger: gets what is wrong.
    """
    firsts: dict[str, int] = {}
    result = []
    for at, entry in kept:
        first = firsts.setdefault(str(PurePosixPath(entry["file_name"])), entry["id"])
        if first == entry["id"]:
            result.append((at, entry))
            continue
        reason = f"image {first} is the same file; its annotations go there"
        ledger.harmless(at, "images share a file", reason)
        numbered[canonical(at.id)] = first
    return result


def of_one_content(
    kept: list[tuple[Place, Entry]],
    digests: Sequence[str | None],
    numbered: dict[Any, int],
    ledger: Ledger,
) -> list[Entry]:
    """One image a content: annotations of copies under other names become its own.

    Args:
        kept: images of known size.
        digests: of each one's file; None: unknown.
        numbered: number by id; changed.
        ledger: gets what is wrong.
    """
    firsts: dict[Any, Entry] = {}
    targets: dict[int, int] = {}
    result = []
    for (at, entry), digest in zip(kept, digests, strict=True):
        key = (digest, entry["height"], entry["width"]) if digest else entry["id"]
        first = firsts.setdefault(key, entry)
        if first is entry:
            result.append(entry)
            continue
        reason = (
            f"image {first['id']} ({first['file_name']}) is the same picture byte for byte; its "
            "annotations go there"
        )
        ledger.harmless(at, "images of one content", reason)
        targets[entry["id"]] = first["id"]
    for key, number in numbered.items():
        numbered[key] = targets.get(number, number)
    return result
