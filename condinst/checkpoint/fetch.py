"""Fetch a file once, resuming where an earlier try stopped."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from iopath.common.file_io import file_lock

from condinst.errors import UserError

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_TRIES = 3
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|pkl|safetensors)$")

_log = logging.getLogger(__name__)


class _Broken(Exception):
    """A transfer that may succeed when tried again."""


def fetch(url: str, dst: Path, sha256: str | None = None) -> Path:
    """Fetch a URL into a file, unless the file is there already.

    A transfer that stops leaves ``<dst>.part``, from which the next one goes on. Processes that
    want the same file wait for each other.

    Args:
        url: http or https.
        dst: where the file shall lie.
        sha256: its hash or the hash's beginning; taken from the name where that ends in
            ``-<hash>.pth`` as PyTorch's files do.

    Returns:
        ``dst``.

    Raises:
        UserError: the file cannot be had, or its hash is wrong; says what to put where.
    """
    sha256 = sha256 or hash_in_name(url)
    if dst.is_file():
        return dst
    dst.parent.mkdir(parents=True, exist_ok=True)
    part = dst.with_name(dst.name + ".part")
    with file_lock(str(dst)):
        if dst.is_file():  # another process was faster
            return dst
        _transfer_patiently(url, part, dst)
        _check_hash(part, sha256, url)
        part.replace(dst)
        _tag_of(part).unlink(missing_ok=True)
    return dst


def hash_in_name(url: str) -> str | None:
    """The beginning of a sha256 that PyTorch's way of naming files holds.

    Args:
        url: a URL or file name.
    """
    m = _HASH_IN_NAME.search(urlsplit(url).path)
    return m[1] if m else None


def sha256_of(path: Path) -> str:
    """Hash of a file's content.

    Args:
        path: file to read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transfer_patiently(url: str, part: Path, dst: Path) -> None:
    reason: Exception | None = None
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.2 * 2**attempt)
        try:
            _transfer(url, part)
            return
        except urllib.error.HTTPError as error:
            reason = error
            if error.code < 500 and error.code != 429:
                break  # the answer will not change
        except urllib.error.URLError as error:
            reason = error
            if not isinstance(error.reason, TimeoutError):
                break  # no such host, connection refused: no network
        except (OSError, http.client.HTTPException, _Broken) as error:
            reason = error
    raise UserError(
        f"cannot fetch {url} ({reason}). Without a network: download it elsewhere and put it at "
        f"{dst}, or give the path of your copy."
    ) from reason


def _tag_of(part: Path) -> Path:
    """Where the server's tag of a half-fetched file is kept, so that halves never mix."""
    return part.with_name(part.name + ".etag")


def _transfer(url: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    tag = _tag_of(part)
    request = urllib.request.Request(url, headers={"User-Agent": "condinst-lab"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.is_file():
            request.add_header("If-Range", tag.read_text())
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # everything was there already
        if error.code == 416:
            part.unlink()
            raise _Broken("the server's file is shorter than what was fetched before") from error
        raise
    with answer:
        resumed = answer.status == 206
        if resumed:
            _log.info("resuming %s at %d bytes", url, have)
        if answer.headers.get("ETag"):
            tag.write_text(answer.headers["ETag"])
        expected = answer.headers.get("Content-Length")
        got = 0
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                got += len(chunk)
    if expected is not None and got != int(expected):
        raise _Broken(f"the connection ended after {got} of {expected} bytes")


def _check_hash(part: Path, sha256: str | None, url: str) -> None:
    if sha256 is None:
        return
    found = sha256_of(part)
    if not found.startswith(sha256):
        part.unlink()
        _tag_of(part).unlink(missing_ok=True)
        raise UserError(
            f"{url} has sha256 {found}, expected {sha256}: the copy was deleted; fetch it again, "
            "and if that does not help, the file has changed at its origin"
        )
