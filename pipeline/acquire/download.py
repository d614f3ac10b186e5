"""Fetching large files over connections that break: parallel ranges, resumed, retried, verified.

While a file ``F`` is on its way, its bytes stand at their place in ``F.part``, and ``F.part.done``
lists the pieces that are whole. A kill at any byte costs at most the pieces that were on their way.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from condinst.errors import UserError
from pipeline.acquire import http
from pipeline.acquire.http import Patience, RefusedError

PIECE = 8 << 20  # bytes of a range
CONNECTIONS = 4

_BLOCK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its address, size in bytes and md5."""

    url: str
    size: int
    md5: str


def fetch(
    remote: RemoteFile,
    path: Path,
    *,
    advance: Callable[[int], None] = lambda count: None,
    patience: Patience | None = None,
    piece: int = PIECE,
    connections: int = CONNECTIONS,
) -> None:
    """Download a file unless it is there.

    A later call goes on after a failure or a kill; ``path`` appears when size and md5 are right.
    Content of another md5 is thrown away and fetched once more.

    Args:
        remote: what to fetch.
        path: where it goes; trusted if it is there.
        advance: told the bytes that are on disk in addition; negative when some are thrown away.
        patience: with the host; None: the default.
        piece: bytes of a range; what an earlier call fetched by other ones is thrown away.
        connections: ranges at a time.

    Raises:
        UserError: the server refuses, does not answer, is too slow, or sends something else.
        OSError: the disk does not take it.
    """
    if path.exists():
        advance(remote.size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    found = ""
    for _ in range(2):
        with _Part(remote, path, piece) as part:
            advance(part.held)
            transfer = _Transfer(remote, part, advance, patience or Patience())
            found = asyncio.run(transfer.run(connections))
        if found == remote.md5:
            part.path.replace(path)
            part.journal.unlink()
            return
        part.path.unlink()
        part.journal.unlink()
        advance(-remote.size)
    raise UserError(
        f"{remote.url}: md5 is {found}, expected {remote.md5}, twice; what arrived is thrown away. "
        "Run it again, or name another host in dataset.mirror"
    )


def held(path: Path) -> int:
    """Bytes of a file that are on disk, whole or on its way."""
    if path.exists():
        return path.stat().st_size
    try:
        lines = (path.parent / f"{path.name}.part.done").read_text().split("\n")
        size, piece = map(int, lines[0].split()[:2])
        return min(size, piece * len(set(lines[1:-1])))
    except (FileNotFoundError, ValueError, IndexError):
        return 0


class _Part:
    """A file on its way. Bytes are written before the line that says so."""

    def __init__(self, remote: RemoteFile, path: Path, piece: int) -> None:
        self.path = path.with_name(path.name + ".part")
        self.journal = path.with_name(path.name + ".part.done")
        self.size, self.piece = remote.size, piece
        self.count = -(-remote.size // piece)
        self._head = f"{remote.size} {piece} {remote.md5}"
        self.done = self._known()

    def __enter__(self) -> _Part:
        if not self.done:
            self.journal.write_text(self._head + "\n")
        flags = os.O_RDWR | os.O_CREAT
        self._file = os.open(self.path, flags, 0o666)
        os.ftruncate(self._file, self.size)
        self._lines = self.journal.open("a")
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)
        self._lines.close()

    @property
    def held(self) -> int:
        """Bytes of whole pieces."""
        return sum(end - start for start, end in map(self.span, self.done))

    def span(self, number: int) -> tuple[int, int]:
        """Where a piece begins and ends."""
        return number * self.piece, min((number + 1) * self.piece, self.size)

    def write(self, block: bytes, at: int) -> None:
        """Put bytes at their place."""
        view = memoryview(block)
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written

    def finish(self, number: int) -> None:
        """Note that a piece is whole."""
        if number not in self.done:
            self.done.add(number)
            self._lines.write(f"{number}\n")
            self._lines.flush()

    def read(self, number: int) -> bytes:
        """A whole piece."""
        start, end = self.span(number)
        return os.pread(self._file, end - start, start)

    def _known(self) -> set[int]:
        if not self.path.is_file() or not self.journal.is_file():
            return set()
        *lines, torn = self.journal.read_text().split("\n")
        if torn:  # killed within a line: the next one must not go on in it
            self.journal.write_text("\n".join([*lines, ""]))
        if not lines or lines[0] != self._head or self.path.stat().st_size != self.size:
            return set()
        return {int(line) for line in lines[1:] if line.isdigit() and int(line) < self.count}


class _NoRangesError(Exception):
    """The server sends all from the beginning whatever it was asked for."""


class _Transfer:
    """Brings all pieces of a part, and its md5, hashed while others arrive."""

    def __init__(
        self,
        remote: RemoteFile,
        part: _Part,
        advance: Callable[[int], None],
        patience: Patience,
    ) -> None:
        self.remote, self.part, self.advance, self.patience = remote, part, advance, patience
        self._waiting = [k for k in range(part.count) if k not in part.done]
        self._partial: dict[int, int] = {}  # bytes of unfinished pieces
        self._news = asyncio.Event()

    async def run(self, connections: int) -> str:
        """Returns the md5 of what is then on disk."""
        hashing = asyncio.create_task(self._hash())
        try:
            async with http.session(self.patience) as session:
                try:
                    fetchers = [self._fetch_pieces(session) for _ in range(connections)]
                    await http.gather(hashing, *fetchers)
                except _NoRangesError:
                    await http.gather(hashing, self._fetch_in_one(session))
            return await hashing
        finally:
            hashing.cancel()

    async def _hash(self) -> str:
        """Follow the pieces that are whole from the first one on."""
        digest = hashlib.md5(usedforsecurity=False)
        for number in range(self.part.count):
            while number not in self.part.done:
                self._news.clear()
                await self._news.wait()
            digest.update(await asyncio.to_thread(self.part.read, number))
        return digest.hexdigest()

    def _finish(self, number: int) -> None:
        self.part.finish(number)
        self._news.set()

    async def _fetch_pieces(self, session: aiohttp.ClientSession) -> None:
        while self._waiting:
            number = self._waiting.pop(0)
            start, end = self.part.span(number)

            async def go_on(number: int = number, start: int = start, end: int = end) -> int:
                at = start + self._partial.get(number, 0)
                await self._receive_range(session, number, at, end)
                return self._partial.get(number, 0)

            await http.patiently(
                self.remote.url,
                self.patience,
                go_on,
                end - start,
                lambda number=number: self._partial.get(number, 0),
            )
            self._finish(number)

    async def _receive_range(
        self, session: aiohttp.ClientSession, number: int, at: int, end: int
    ) -> None:
        async with session.get(
            self.remote.url, headers={"Range": f"bytes={at}-{end - 1}"}
        ) as answer:
            http.check_status(answer)
            if answer.status != 206 and (at, end) != (0, self.remote.size):
                raise _NoRangesError
            self._check_size(http.sent_range(answer, at))
            async for block in http.blocks(answer, self.patience, end - at, _BLOCK):
                self.part.write(block, at)
                at += len(block)
                self._partial[number] = self._partial.get(number, 0) + len(block)
                self.advance(len(block))

    async def _fetch_in_one(self, session: aiohttp.ClientSession) -> None:
        """Where ranges are not understood: all from the first byte, what is held passed over."""
        self.advance(-sum(count for k, count in self._partial.items() if k not in self.part.done))
        self._partial.clear()
        best = 0

        async def begin() -> int:
            nonlocal best
            at = 0
            async with session.get(self.remote.url) as answer:
                http.check_status(answer)
                self._check_size(http.sent_range(answer, 0))
                async for block in http.blocks(answer, self.patience, self.part.size, _BLOCK):
                    self.part.write(block, at)
                    best = self._note(at, at + len(block), best)
                    at += len(block)
            return best

        await http.patiently(self.remote.url, self.patience, begin, self.part.size, lambda: best)

    def _note(self, start: int, end: int, best: int) -> int:
        """Finish the pieces that end here, tell what is new, give the farthest byte so far."""
        for number in range(start // self.part.piece, -(-end // self.part.piece)):
            low, high = self.part.span(number)
            if number not in self.part.done:
                self.advance(max(min(end, high) - max(start, low, best), 0))
            if high <= end:
                self._finish(number)
        return max(best, end)

    def _check_size(self, total: int | None) -> None:
        if total is not None and total != self.remote.size:
            raise RefusedError(f"the server has {total:,} bytes, expected {self.remote.size:,}")
