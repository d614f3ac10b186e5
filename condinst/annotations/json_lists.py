"""Long JSON files of annotations read in pieces, since all at once they take gigabytes.

A piece of a list ends where an element could end (``}, {``) if it parses up to there: what parses
as whole elements from the list's beginning on cannot have been cut within one.

``msgspec.Raw`` over a mapped file opens one nine times faster, but refuses NaN, Infinity and lone
surrogates, which exports contain; a long file would then have to fit into memory to be mended.
"""

from __future__ import annotations

import gc
import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any, NamedTuple, overload

import orjson

from condinst.errors import UserError
from condinst.files import jsontext
from condinst.files.bounds import JSON

_WINDOW = 1 << 20  # bytes that are read together
_NEAR = 1 << 15  # bytes in which a place to end at is looked for
_TRIES = 8  # places that a piece may end at
_LONG = 64 << 20  # bytes; no element is that long
_BETWEEN = re.compile(rb"\}\s*,(?=\s*\{)")
_END = re.compile(rb"\}\s*\]")
_LENIENT = re.compile(rb"NaN|Infinity|\\u[dD]|\d{19}")  # Python's parser takes these
_SPACE = re.compile(rb"\s*")

Entry = dict[str, Any]


class _Piece(NamedTuple):
    """Elements of a list in a file."""

    offset: int
    bytes: int
    count: int


class _Odd(Exception):
    """The file is no JSON, or one that cannot be read in pieces."""


class JsonList(Sequence[Any]):
    """A list of mappings in a JSON file, read again each time it is walked through.

    Random access reads a piece of about a megabyte; neighbours are then at hand.
    """

    def __init__(self, path: Path, pieces: Sequence[_Piece]) -> None:
        self._path, self._pieces = path, tuple(pieces)
        self._ends = list(accumulate(piece.count for piece in pieces))
        self._at_hand: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        """How many elements."""
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """An element, or a list of some."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        number = bisect_right(self._ends, index)
        if self._at_hand[0] != number:
            with self._path.open("rb") as file:
                self._at_hand = number, _parse(_cut(file, self._pieces[number]))
        return self._at_hand[1][index - self._ends[number]]  # counted from the piece's end

    def __iter__(self) -> Iterator[Any]:
        """All elements in order."""
        for text in self.texts():
            yield from _parse(text)

    def texts(self) -> Iterator[bytes]:
        """JSON of the elements, many at a time, with commas between."""
        with self._path.open("rb") as file:
            for piece in self._pieces:
                yield _cut(file, piece)


class Edited(Sequence[Any]):
    """Some elements of a sequence, a few of them changed; only places and changes are held.

    Args:
        source: must stay as it is.
    """

    def __init__(self, source: Sequence[Any]) -> None:
        self._source = source
        self._places = array("q")
        self._changes: dict[int, bytes] = {}

    def keep(self, place: int, changed: Entry | None = None) -> None:
        """Take an element over.

        Args:
            place: in the source, above that of the last one kept.
            changed: what takes the element's place; None: it stays as it is.
        """
        assert not self._places or place > self._places[-1], (place, self._places[-1])
        self._places.append(place)
        if changed is not None:
            self._changes[place] = dumps(changed)

    def change(self, index: int, changed: Entry) -> None:
        """Replace an element that is kept already."""
        self._changes[self._places[index]] = dumps(changed)

    def leave_out(self, indexes: Container[int]) -> None:
        """Take elements back that are kept already."""
        places = (place for k, place in enumerate(self._places) if k not in indexes)
        self._places = array("q", places)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """An element, or a list of some."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        place = self._places[index]
        text = self._changes.get(place)
        return self._source[place] if text is None else _parse(text)[0]

    def __iter__(self) -> Iterator[Any]:
        """What is kept, in order."""
        wanted = iter(self._places)
        following = next(wanted, -1)
        for place, entry in enumerate(self._source):
            if place == following:
                text = self._changes.get(place)
                yield entry if text is None else _parse(text)[0]
                following = next(wanted, -1)

    def texts(self) -> Iterator[bytes]:
        """JSON of the elements, with commas between."""
        whole = len(self) == len(self._source) and not self._changes
        if whole and isinstance(self._source, (JsonList, Edited)):
            yield from self._source.texts()
        else:
            yield from map(dumps, self)


@contextmanager
def no_collection() -> Iterator[None]:
    """Let the garbage collector rest: entries of JSON form no cycles, but make it run all the time.

    It costs a third of the time of reading.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def edit(listed: Sequence[Any], change: Callable[[Any], Any]) -> Sequence[Any]:
    """The list with every element changed, or without it.

    Args:
        listed: stays as it is; of one that is read from a file, only changes are held.
        change: gives an element as it shall be, the same object where nothing changes, or None.
    """
    if isinstance(listed, list):
        return [found for found in map(change, listed) if found is not None]
    kept = Edited(listed)
    for place, entry in enumerate(listed):
        found = change(entry)
        if found is not None:
            kept.keep(place, None if found is entry else found)
    return kept


def dumps(value: Any) -> bytes:
    """JSON on one line."""
    try:
        # orjson writes null for what is not finite
        return orjson.dumps(value) if not _has_odd(value) else json.dumps(value).encode()
    except (TypeError, ValueError):
        return json.dumps(value, separators=(",", ":")).encode()


def _has_odd(value: Any) -> bool:
    """Whether any number in it is not finite."""
    if isinstance(value, float):
        return value != value or value in (float("inf"), float("-inf"))
    if isinstance(value, dict):
        return any(map(_has_odd, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_odd, value))


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a mapping, lists that are read from files piece by piece."""
    with path.open("wb") as file:
        for number, (key, value) in enumerate(content.items()):
            file.write(b"," if number else b"{")
            file.write(json.dumps(key).encode() + b":")
            if isinstance(value, (JsonList, Edited)):
                for place, text in enumerate(value.texts()):
                    file.write(b"," if place else b"[")
                    file.write(text)
                file.write(b"]" if len(value) else b"[]")
            else:
                file.write(json.dumps(value, separators=(",", ":")).encode())
        file.write(b"}" if content else b"{}")


def read_in_pieces(path: Path, lazily: Container[str]) -> dict[str, Any] | None:
    """The mapping that a JSON file holds.

    Args:
        path: the file.
        lazily: keys of lists of mappings that become a :class:`JsonList`.

    Returns:
        None where the file is no JSON, or one that Python's own parser must read in one go.

    Raises:
        UserError: it is so, and too large for that; or it is nested too deep, or what is not read
            lazily would take too much memory.
    """
    with path.open("rb") as file:
        walk = _Walk(path, file)
        try:
            return walk.content(lazily)
        except _Odd as error:
            if 2 * path.stat().st_size > JSON.value:
                raise UserError(
                    f"{path} is no COCO JSON, or cut off: it makes sense up to about byte "
                    f"{walk.offset + walk.at:,} of {path.stat().st_size:,}"
                ) from error
            return None


class _Walk:
    """Walks through the top level of a file.

    Attributes:
        data: a part of the file.
        offset: where in the file it begins.
        at: place in it.
        memory: bytes that what is not read lazily takes.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.data, self.offset, self.at = b"", 0, 0
        self.memory = 0

    def content(self, lazily: Container[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._expect(b"{")
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise _Odd
            self._expect(b":")
            found[key] = self._list(key in lazily) if self._lists_mappings() else self._value()
            if self._expect(b",}") == b"}":
                break
        if self._peek():
            raise _Odd
        return found

    def _more(self) -> bool:
        """Read on; what lies behind is let go."""
        if len(self.data) - self.at > _LONG:
            raise _Odd
        added = self.file.read(max(_WINDOW, len(self.data) - self.at))
        self.offset += self.at
        self.data, self.at = self.data[self.at :] + added, 0
        return bool(added)

    def _peek(self) -> bytes:
        """The next byte that is no space; none at the end."""
        while True:
            match = _SPACE.match(self.data, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.data):
                return self.data[self.at : self.at + 1]
            if not self._more():
                return b""

    def _expect(self, allowed: bytes) -> bytes:
        found = self._peek()
        if not found or found not in allowed:
            raise _Odd
        self.at += 1
        return found

    def _value(self) -> Any:
        """Any value, read in one go."""
        self._peek()
        while True:
            text = self.data[self.at :].decode("utf-8", "surrogateescape")
            value, end = None, len(text)
            with suppress(ValueError, RecursionError):
                value, end = json.JSONDecoder().raw_decode(text)
            if end < len(text):  # else more of it may follow
                read = text[:end].encode("utf-8", "surrogateescape")
                self._count(read)
                self.at += len(read)
                return value
            if not self._more():
                raise _Odd

    def _lists_mappings(self) -> bool:
        if self._peek() != b"[":
            return False
        self.at += 1
        if self._peek() == b"{":
            return True
        # _peek may have read on, but only spaces lie between
        self.data, self.at, self.offset = b"[" + self.data[self.at :], 0, self.offset + self.at - 1
        return False

    def _list(self, lazily: bool) -> Any:
        pieces: list[_Piece] = []
        entries: list[Any] = []
        last = False
        while not last:
            while len(self.data) - self.at < _WINDOW and self._more():
                pass
            start = self.offset + self.at
            parsed, text, last = self._piece()
            pieces.append(_Piece(start, len(text), len(parsed)))
            jsontext.check_depth(text, str(self.path))
            if not lazily:
                self._count(text)
                entries += parsed
        return JsonList(self.path, pieces) if lazily else entries

    def _count(self, text: bytes) -> None:
        jsontext.check_depth(text, str(self.path))
        self.memory += jsontext.memory(text)
        what = f"would take about {self.memory:,} bytes of memory without its annotations"
        JSON.require(self.memory, str(self.path), what)

    def _piece(self) -> tuple[list[Any], bytes, bool]:
        """Whole elements from here on, their text, and whether the list ends with them."""
        while True:
            for parse in (orjson.loads, _parse_leniently):
                for match in self._places():
                    text = self.data[self.at : match.start() + 1]
                    try:
                        parsed = parse(_listed(text))
                    except (ValueError, RecursionError):
                        continue
                    self.at = match.end()
                    return parsed, text, match.group().endswith(b"]")
            if not self._more():
                raise _Odd

    def _places(self) -> Iterator[re.Match[bytes]]:
        """Where a piece may end, the best first."""
        size = len(self.data) - self.at
        for shift in range(size.bit_length()):
            end = self.at + (size >> shift)
            found = [*_BETWEEN.finditer(self.data, max(self.at, end - _NEAR), end)]
            yield from found[: -_TRIES - 1 : -1]
            if shift == 0:  # the list may end here
                yield from islice(_END.finditer(self.data, self.at), _TRIES)


def _cut(file: IO[bytes], piece: _Piece) -> bytes:
    file.seek(piece.offset)
    return file.read(piece.bytes)


def _listed(text: bytes) -> bytes:
    return b"[" + text + b"]"


def _parse(text: bytes) -> list[Any]:
    """The elements that a text holds, with commas between.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(_listed(text))
    except ValueError:
        return _parse_leniently(_listed(text))


def _parse_leniently(text: bytes) -> list[Any]:
    """As Python's own parser does, where only that may take it.

    Raises:
        ValueError: it is no JSON.
    """
    if _LENIENT.search(text) is None:
        raise ValueError
    return json.loads(text)
