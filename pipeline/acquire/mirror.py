"""Where archives come from: a host, a bucket, or a folder on this machine."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from pathlib import Path

from condinst.errors import UserError
from condinst.files.names import expanded

AMAZON = "https://s3.amazonaws.com"
REMEDY = "name another host in dataset.mirror"  # where one fails


def resolve(mirror: str) -> str | Path:
    """An HTTP address without trailing slash, or a folder.

    Args:
        mirror: ``http(s)://``, ``s3://BUCKET/PREFIX`` (read without credentials, from
            ``AWS_ENDPOINT_URL`` if that is set), ``file://``, or a path.

    Raises:
        UserError: the folder does not exist.
    """
    kind, separator, rest = mirror.partition("://")
    if kind in ("http", "https") and separator:
        return mirror.rstrip("/")
    if kind == "s3" and separator:
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or AMAZON
        return f"{endpoint.rstrip('/')}/{rest.strip('/')}"
    if kind == "file" and separator:
        mirror = urllib.request.url2pathname(urllib.parse.urlsplit(mirror).path)
    folder = expanded(mirror).absolute()
    if not folder.is_dir():
        raise UserError(f"dataset.mirror: the folder {folder} does not exist")
    return folder
