"""Fetching large files over connections that break: resumed, retried, verified."""

from __future__ import annotations

import hashlib
import http
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from condinst.errors import UserError

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its address, size in bytes and md5."""

    url: str
    size: int
    md5: str


class _RefusedError(Exception):
    """The server's answer will not change by asking again."""


def fetch(
    remote: RemoteFile,
    path: Path,
    *,
    advance: Callable[[int], None] = lambda count: None,
    attempts: int = 8,
    first_wait: float = 1.0,
) -> None:
    """Download a file unless it is there.

    What arrives goes to ``path`` + ``.part``, where a later call goes on after a failure or a
    kill; ``path`` appears when size and md5 are right.

    Args:
        remote: what to fetch.
        path: where it goes; trusted if it is there.
        advance: told the bytes that are on disk in addition; negative when some are thrown away.
        attempts: in a row without a byte before giving up.
        first_wait: seconds after the first failure; doubles with each, up to a minute.

    Raises:
        UserError: the server refuses, does not answer, or sends something else.
        OSError: the disk does not take it.
    """
    if path.exists():
        advance(remote.size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _discard_excess(part, remote.size)
    advance(_size(part))
    failures, wait = 0, first_wait
    while _size(part) < remote.size:
        before = _size(part)
        try:
            _transfer(remote, part, advance)
            problem = f"the connection ended after {_size(part):,} of {remote.size:,} bytes"
        except _RefusedError as error:
            raise UserError(
                f"{remote.url}: {error}; see dataset.mirror for another host"
            ) from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
        ) as error:
            problem = str(getattr(error, "reason", None) or error or type(error).__name__)
        if _size(part) > before:
            failures, wait = 0, first_wait
        elif (failures := failures + 1) >= attempts:
            raise UserError(
                f"{remote.url}: gave up after {attempts} attempts in a row ({problem}); what has "
                f"arrived is kept, run it again to go on, or name another host in dataset.mirror"
            )
        if _size(part) < remote.size:
            time.sleep(wait)
            wait = min(wait * 2, 60.0)
    _verify(part, remote)
    part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _discard_excess(part: Path, size: int) -> None:
    if _size(part) > size:
        part.unlink()


def _transfer(remote: RemoteFile, part: Path, advance: Callable[[int], None]) -> None:
    """Append what the server sends from the end of the part on, until it stops."""
    start = _size(part)
    request = urllib.request.Request(remote.url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in _TRANSIENT:
                raise
            raise _RefusedError(f"the server answers {error.code} {error.reason}") from error
    with answer:
        if start and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            advance(-start)  # it sends all from the beginning
            start = 0
        total = _total(answer, start)
        if total is not None and total != remote.size:
            raise _RefusedError(f"the server has {total:,} bytes, expected {remote.size:,}")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while block := _read(answer, min(_BLOCK, remote.size - file.tell())):
                file.write(block)
                advance(len(block))


def _read(answer: http.client.HTTPResponse, count: int) -> bytes:
    """At most so many bytes. TLS and routing fail by plain OSErrors, as disks do.

    Raises:
        ConnectionError: the network, whatever it was.
    """
    try:
        return answer.read(count)
    except OSError as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _total(answer: http.client.HTTPResponse, start: int) -> int | None:
    """Size of the whole file by the server's word."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if span:
        if int(span[1]) != start:
            raise _RefusedError(f"the server sends from byte {span[1]}, asked for {start}")
        return None if span[2] == "*" else int(span[2])
    length = answer.headers.get("Content-Length")
    return int(length) + start if length else None


def _verify(part: Path, remote: RemoteFile) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != remote.md5:
        part.unlink()
        raise UserError(
            f"{remote.url}: md5 is {found}, expected {remote.md5}; what arrived is thrown away, "
            "run it again, or name another host in dataset.mirror"
        )
