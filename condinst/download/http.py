"""What all downloads share: patience with a host, and checks of its responses."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp

from condinst.errors import UserError

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Patience:
    """How long a host may fail.

    Attributes:
        attempts: failures in a row, without a byte, before giving up.
        first_wait: seconds after the first failure; doubles with each, up to a minute.
        timeout: seconds without a byte after which a connection is dropped.
        slowest: bytes per second, over ``window`` seconds, below which it is dropped too.
        window: seconds.
    """

    attempts: int = 8
    first_wait: float = 1.0
    timeout: float = 60.0
    slowest: float = 1000.0
    window: float = 60.0


class RefusedError(Exception):
    """The server's answer will not change on a retry."""


class _BusyError(Exception):
    """The server asks to wait; ``wait`` seconds if it says how long."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class _SlowError(Exception):
    """Bytes come, but too few of them."""


def session(patience: Patience) -> aiohttp.ClientSession:
    """A client that follows redirects, uses the environment's proxies and decodes nothing."""
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=patience.timeout, sock_read=patience.timeout
    )
    headers = {"Accept-Encoding": "identity", "User-Agent": "condinst-lab"}
    return aiohttp.ClientSession(
        timeout=timeout, headers=headers, auto_decompress=False, trust_env=True
    )


def version(answer: aiohttp.ClientResponse) -> str:
    """The server's name for this version of the file; empty if it gives none."""
    given = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return " ".join(given.split())


def check_status(answer: aiohttp.ClientResponse) -> None:
    """Accept only responses with content.

    Raises:
        RefusedError: the server will not send it.
    """
    if answer.status in (200, 206):
        return
    problem = f"the server answers {answer.status} {answer.reason}"
    if answer.status not in TRANSIENT:
        raise RefusedError(problem)
    wait = answer.headers.get("Retry-After", "")
    raise _BusyError(problem, float(wait) if wait.isdigit() else 0.0)


def sent_range(answer: aiohttp.ClientResponse, start: int) -> int | None:
    """Size of the whole file as the server states it.

    Raises:
        RefusedError: it sends from a byte other than the requested one.
    """
    given = answer.headers.get("Content-Range", "")
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given)
    if answer.status == 206 and span is None:
        raise RefusedError(f"the server's Content-Range {given!r} does not say what it sends")
    if span is not None:
        if int(span[1]) != start:
            raise RefusedError(f"the server sends from byte {span[1]}, not from {start} as asked")
        return None if span[2] == "*" else int(span[2])
    return answer.content_length


async def blocks(
    answer: aiohttp.ClientResponse, patience: Patience, count: int, block: int
) -> AsyncIterator[bytes]:
    """Up to this many bytes of a response as they arrive; fewer if the connection ends."""
    began, received = time.monotonic(), 0
    while count and (data := await answer.content.read(min(block, count))):
        count -= len(data)
        yield data
        received += len(data)
        passed = time.monotonic() - began
        if passed > patience.window:
            if received < patience.slowest * passed:
                raise _SlowError(f"the server sends {received / passed:.0f} bytes a second")
            began, received = time.monotonic(), 0


async def patiently(
    url: str,
    patience: Patience,
    attempt: Callable[[], Awaitable[int]],
    wanted: int,
    remedy: str,
    progress: Callable[[], int] | None = None,
) -> None:
    """Try until all bytes are there.

    Args:
        url: for messages.
        patience: with the host.
        attempt: continues the transfer and returns how many bytes are there.
        wanted: how many there must be.
        remedy: what else the user can do, for messages.
        progress: bytes there after a failed attempt; None: what the last attempt returned.

    Raises:
        UserError: the host refuses, or fails too often in a row.
    """
    failures, wait, there = 0, patience.first_wait, 0
    while True:
        pause, slow, before = 0.0, False, there
        try:
            there = await attempt()
            if there >= wanted:
                return
            problem = f"the connection ended after {there:,} of {wanted:,} bytes"
        except RefusedError as error:
            raise UserError(f"{url}: {error}; {remedy}") from error
        except _BusyError as error:
            problem, pause = str(error), error.wait
        except _SlowError as error:
            problem, slow = str(error), True
        except TimeoutError:  # a byte for each connection is no progress either
            problem, slow = f"no byte for {patience.timeout:g} seconds", True
        except (aiohttp.ClientError, ConnectionError, ssl.SSLError) as error:
            problem = str(error) or type(error).__name__
        there = max(there, progress() if progress is not None else there)
        if there > before and not slow:
            failures, wait = 0, patience.first_wait
        elif (failures := failures + 1) >= patience.attempts:
            raise UserError(
                f"{url}: gave up after {patience.attempts} attempts in a row ({problem}); what has "
                f"arrived is kept: run it again to resume, or {remedy}"
            )
        await asyncio.sleep(min(max(wait, pause), _LONGEST_WAIT))
        wait = min(wait * 2, _LONGEST_WAIT)


async def gather(*work: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
    """Run all concurrently; the first error cancels the others."""
    tasks = [asyncio.ensure_future(item) for item in work]
    own = [task for task, item in zip(tasks, work, strict=True) if task is not item]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
