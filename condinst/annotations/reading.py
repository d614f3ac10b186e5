"""COCO JSON of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from condinst.annotations.json_lists import JsonList, read_in_pieces
from condinst.errors import UserError
from condinst.files import jsontext

LARGE = 16 << 20  # bytes of JSON from which on annotations are read in pieces


def read_coco(path: str | Path) -> dict[str, Any]:
    """A COCO instance JSON.

    The annotations of a long one are read in pieces, each time that they are walked through.

    Raises:
        UserError: it is missing, is no JSON, or lacks one of the three lists.
    """
    if not Path(path).is_file():
        what = "a folder" if Path(path).is_dir() else "missing"
        raise UserError(f"{path} is {what}; it should be a JSON that holds COCO annotations")
    content = None
    if Path(path).stat().st_size >= LARGE:
        content = read_in_pieces(Path(path), ("annotations",))
    if content is None:
        content = jsontext.read(Path(path), "COCO JSON, nor any other")
    lists = ("images", "annotations", "categories")
    lacking = [
        key
        for key in lists
        if not isinstance(content, dict) or not isinstance(content.get(key), (list, JsonList))
    ]
    if lacking:
        raise UserError(
            f"{path} is no COCO JSON: it has no list {', '.join(lacking)}; it needs the lists "
            "images, annotations and categories"
        )
    return content
