"""The annotations of a JSON, checked many at a time; what is doubtful is mended one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from condinst.annotations import frames, rescaled
from condinst.annotations.faults import Place
from condinst.annotations.frames import Votes
from condinst.annotations.ids import canonical
from condinst.annotations.json_lists import Edited
from condinst.annotations.mending import Mender
from condinst.annotations.screening import KnownImages, screen
from condinst.annotations.twins import Twins, listed_twice

Entry = dict[str, Any]

_CHUNK = 8192  # annotations that are looked at together


def check_objects(listed: Sequence[Any], mender: Mender) -> Sequence[Entry]:
    """The annotations that can be used.

    They are looked at twice if a vote over all of them says that coordinates are in another frame
    than they should be; what the first look found is then forgotten.

    Args:
        listed: as they stand.
        mender: knows images and categories; mends what can be.
    """
    ledger = mender.ledger
    mark = len(ledger.faults)
    votes, twins = Votes(), Twins()
    kept = _look(listed, mender, votes, twins)
    verdict = votes.verdict()
    ledger.fatal += filter(None, (verdict.doubt, votes.lone.doubt()))
    if verdict.hint is not None:
        ledger.hints.append(verdict.hint)
    if verdict.reading or verdict.minor or verdict.shares or verdict.shape or verdict.frame:
        mender.verdict = verdict
        del ledger.faults[mark:]
        twins = Twins()
        kept = _look(listed, mender, None, twins)
    _part_twins(kept, twins.suspects(), mender)
    ledger.sum_up(mark, frames.KINDS, len(listed))
    return list(kept) if isinstance(listed, list) else kept


def _part_twins(kept: Edited, suspects: list[int], mender: Mender) -> None:
    """One of each object that is listed twice."""
    sizes = {key: (image["height"], image["width"]) for key, image in mender.images.items()}
    gone = set()
    for place, entry, first in listed_twice(kept, suspects, sizes if suspects else {}):
        gone.add(place)
        at = Place("annotation", entry["id"], mender.images[entry["image_id"]]["file_name"])
        reason = f"its class and mask are those of annotation {first['id']}; one of them is kept"
        mender.ledger.harmless(at, "object listed twice", reason)
    if gone:
        kept.leave_out(gone)


def _look(listed: Sequence[Any], mender: Mender, votes: Votes | None, twins: Twins) -> Edited:
    kept = Edited(listed)
    unnumbered: list[tuple[int, Entry]] = []
    seen: set[int] = set()
    numbering = {number: row for row, number in enumerate(mender.images)}
    known_images, categories = _known(mender, numbering)
    for start, given_chunk in _chunks(listed):
        chunk = [_rescaled(entry, mender) for entry in given_chunk]
        sound, rows, around = screen(chunk, known_images, categories, votes)
        if votes is None:  # in the wrong frame, sound ones may be wrong
            sound[:] = False
        twice = _used_before(chunk, seen)
        first, used, labels = len(kept), [], []
        for place, given in enumerate(chunk):
            entry = given
            if not sound[place] or twice[place]:
                entry = mender.mend(given, f"#{start + place}", twice[place])
                if entry is None:
                    continue
                if entry["id"] is None:
                    unnumbered.append((len(kept), entry))
                rows[place] = numbering[entry["image_id"]]
                around[place] = np.nan if entry["iscrowd"] else mender.around
            used.append(place)
            labels.append(entry["category_id"])
            kept.keep(start + place, None if entry is given_chunk[place] else entry)
        places = np.arange(first, len(kept))
        twins.add(places, rows[used], np.array(labels, int), around[used])
    free = max(seen, default=0)
    for number, (index, entry) in enumerate(unnumbered, start=free + 1):
        kept.change(index, {**entry, "id": number})
    return kept


def _rescaled(given: Any, mender: Mender) -> Any:
    """An annotation in the pixels of its image's file."""
    if not mender.scales or not isinstance(given, dict):
        return given
    number = mender.numbers["image"].get(canonical(given.get("image_id")))
    scale = None if number is None else mender.scales.get(number)
    return given if scale is None else rescaled.scaled(given, *scale)


def _known(mender: Mender, rows: Mapping[int, int]) -> tuple[KnownImages, set[int]]:
    """KnownImages, and categories by the ids that need no other writing."""
    images, categories = (
        {key for key, number in mender.numbers[what].items() if key == number}
        for what in ("image", "category")
    )
    sizes = [(image["width"], image["height"]) for image in mender.images.values()]
    known_images = KnownImages(
        {number: row for number, row in rows.items() if number in images},
        np.array(sizes, np.float64).reshape(-1, 2),
        {
            key: rows[number]
            for key, number in mender.numbers["image"].items()
            if key != number and number in rows
        },
    )
    return known_images, categories


def _chunks(listed: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
    iterator, start = iter(listed), 0
    while chunk := list(islice(iterator, _CHUNK)):
        yield start, chunk
        start += len(chunk)


def _used_before(chunk: list[Any], seen: set[int]) -> list[bool]:
    """Whether each id was there before; notes all in ``seen``."""
    ids = [entry.get("id") if type(entry) is dict else None for entry in chunk]
    ids = [value if type(value) is int and 0 < value < 2**63 else None for value in ids]
    fresh = {value for value in ids if value is not None}
    if len(fresh) == len(ids) and seen.isdisjoint(fresh):
        seen |= fresh
        return [False] * len(ids)
    twice = []
    for value in ids:
        twice.append(value in seen)
        if value is not None:
            seen.add(value)
    return twice
