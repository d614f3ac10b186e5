"""Fetching large files over connections that break: parallel ranges, resumed, retried, verified."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from condinst.download import http
from condinst.download.http import Patience, RefusedError
from condinst.download.part import Part
from condinst.errors import UserError

PIECE = 8 << 20  # bytes of a range
CONNECTIONS = 4

_BLOCK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: its address.
        size: in bytes; None: the host says.
        digest: its hash in hexadecimal, or a prefix of it; empty: unknown. Then only the host's
            word says that all pieces are of one version.
        algorithm: of the hash, a name of `hashlib`.
        remedy: what else the user can do if it cannot be fetched, for messages.
    """

    url: str
    size: int | None = None
    digest: str = ""
    algorithm: str = "md5"
    remedy: str = "give another address"


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

    A later call resumes after a failure or a kill; ``path`` appears when size and hash are right.
    Content with a wrong hash, or of two versions, is discarded and fetched once more.

    Args:
        remote: what to fetch.
        path: its destination; trusted if it exists.
        advance: called with the number of new bytes on disk; negative when some are discarded.
        patience: with the host; None: the default.
        piece: bytes per range; what an earlier call fetched with another size is discarded.
        connections: concurrent ranges.

    Raises:
        UserError: the server refuses, does not answer, is too slow, or sends something else.
        OSError: it cannot be written to disk.
    """
    if path.exists():
        advance(path.stat().st_size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    told, problem = 0, ""

    def tell(count: int) -> None:
        nonlocal told
        told += count
        advance(count)

    for _ in range(2):
        problem = _run(_bring(remote, path, piece, tell, patience or Patience(), connections))
        if not problem:
            return
        tell(-told)
    raise UserError(
        f"{remote.url}: {problem}, twice; what arrived was deleted. Run it again, or "
        f"{remote.remedy}"
    )


async def _bring(
    remote: RemoteFile,
    path: Path,
    piece: int,
    advance: Callable[[int], None],
    patience: Patience,
    connections: int,
) -> str:
    """What is wrong with the content that arrived; empty: nothing, it is at ``path``."""
    size, version = remote.size, ""
    if size is None:
        size, version = await _ask(remote, patience)
    with Part(path, size, piece, remote.digest or version) as part:
        advance(part.held)
        transfer = _Transfer(remote, version, part, advance, patience)
        try:
            found = await transfer.run(connections)
        except _OtherVersionError:
            problem = "the host's file changed during the download"
        else:
            right = found.startswith(remote.digest)
            problem = "" if right else f"{remote.algorithm} is {found}, expected {remote.digest}"
    part.path.unlink() if problem else part.path.replace(path)
    part.journal.unlink()
    return problem


async def _ask(remote: RemoteFile, patience: Patience) -> tuple[int, str]:
    """Size and version of a file, found by requesting its first byte."""
    said: list[tuple[int, str]] = []

    async def ask() -> int:
        async with session.get(remote.url, headers={"Range": "bytes=0-0"}) as answer:
            http.check_status(answer)
            size = http.sent_range(answer, 0)
            if size is None:
                raise RefusedError("the server does not say how long the file is")
            said.append((size, http.version(answer)))
        return 1

    async with http.session(patience) as session:
        await http.patiently(remote.url, patience, ask, 1, remote.remedy)
    return said[-1]


def _run(work: Coroutine[Any, Any, str]) -> str:
    """Run it to the end, even within an event loop such as a notebook's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class _NoRangesError(Exception):
    """The server ignores ranges and sends everything from the beginning."""


class _OtherVersionError(Exception):
    """The server now sends another version than at first."""


class _Transfer:
    """Fetches all pieces of a file and computes its hash as they arrive."""

    def __init__(
        self,
        remote: RemoteFile,
        version: str,
        part: Part,
        advance: Callable[[int], None],
        patience: Patience,
    ) -> None:
        self.remote, self.part, self.advance, self.patience = remote, part, advance, patience
        self._version = "" if remote.digest else version
        self._waiting = [k for k in range(part.count) if k not in part.done]
        self._partial: dict[int, int] = {}  # bytes of unfinished pieces
        self._news = asyncio.Event()

    async def run(self, connections: int) -> str:
        """Returns the hash of what is on disk at the end."""
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
        """Hash the complete pieces in order, from the first one."""
        digest = hashlib.new(self.remote.algorithm, usedforsecurity=False)
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
                self.remote.remedy,
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
            if answer.status != 206 and (at, end) != (0, self.part.size):
                raise _NoRangesError
            self._check(answer, at)
            async for block in http.blocks(answer, self.patience, end - at, _BLOCK):
                self.part.write(block, at)
                at += len(block)
                self._partial[number] = self._partial.get(number, 0) + len(block)
                self.advance(len(block))

    async def _fetch_in_one(self, session: aiohttp.ClientSession) -> None:
        """Without range support: read from the first byte and skip what is on disk."""
        self.advance(-sum(count for k, count in self._partial.items() if k not in self.part.done))
        self._partial.clear()
        best = 0

        async def begin() -> int:
            nonlocal best
            at = 0
            async with session.get(self.remote.url) as answer:
                http.check_status(answer)
                self._check(answer, 0)
                async for block in http.blocks(answer, self.patience, self.part.size, _BLOCK):
                    self.part.write(block, at)
                    best = self._note(at, at + len(block), best)
                    at += len(block)
            return best

        await http.patiently(
            self.remote.url,
            self.patience,
            begin,
            self.part.size,
            self.remote.remedy,
            lambda: best,
        )

    def _note(self, start: int, end: int, best: int) -> int:
        """Finish the pieces that end here, report new bytes, return the farthest byte so far."""
        for number in range(start // self.part.piece, -(-end // self.part.piece)):
            low, high = self.part.span(number)
            if number not in self.part.done:
                self.advance(max(min(end, high) - max(start, low, best), 0))
            if high <= end:
                self._finish(number)
        return max(best, end)

    def _check(self, answer: aiohttp.ClientResponse, start: int) -> None:
        """Accept only a response with the expected file."""
        total = http.sent_range(answer, start)
        changed = self._version and http.version(answer) not in ("", self._version)
        if changed or (self.remote.size is None and total not in (None, self.part.size)):
            raise _OtherVersionError
        if total not in (None, self.part.size):
            raise RefusedError(f"the server has {total:,} bytes, expected {self.part.size:,}")
