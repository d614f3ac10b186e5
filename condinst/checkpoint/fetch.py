"""Fetch weights over the network, once for all processes."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from iopath.common.file_io import file_lock

ATTEMPTS, FIRST_WAIT_S, TIMEOUT_S = 3, 0.4, 30.0  # without a network, fail soon
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|pkl|safetensors)$")


def fetch(url: str, dst: Path, sha256: str | None = None) -> Path:
    """Fetch a URL into a file, unless the file is there already.

    The next call resumes an interrupted transfer; see `condinst.download`. Processes that want the
    same file wait for each other.

    Args:
        url: http or https.
        dst: destination of the file.
        sha256: its hash or a prefix of it; taken from the name if that ends in
            ``-<hash>.pth``, as PyTorch's files do.

    Returns:
        ``dst``.

    Raises:
        UserError: the file cannot be fetched, or its hash is wrong; says what to put where.
    """
    if dst.is_file():
        return dst
    from condinst import download  # imports an HTTP client

    remedy = f"download it elsewhere and put it at {dst}, or give the path of your copy"
    remote = download.RemoteFile(
        url, digest=sha256 or hash_in_name(url) or "", algorithm="sha256", remedy=remedy
    )
    patience = download.Patience(ATTEMPTS, FIRST_WAIT_S, TIMEOUT_S)
    dst.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(dst)):
        download.fetch(remote, dst, patience=patience)
    return dst


def hash_in_name(url: str) -> str | None:
    """The sha256 prefix in a file name that follows PyTorch's convention.

    Args:
        url: a URL or file name.
    """
    m = _HASH_IN_NAME.search(urlsplit(url).path)
    return m[1] if m else None
