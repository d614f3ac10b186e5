"""From annotations to an index on disk (its layout: :mod:`condinst.data.index`)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condinst.annotations.gathering import IndexReport, gather
from condinst.annotations.json_lists import JsonList, read_in_pieces, write_json
from condinst.data.index import VERSION
from condinst.errors import UserError
from condinst.files import jsontext

LARGE = 16 << 20  # bytes of JSON from which on annotations are read in pieces


def build_index(
    annotations: str | Path | Mapping[str, Any],
    images: str | Path,
    out: str | Path,
    ranges: Mapping[str, Any] | None = None,
) -> IndexReport:
    """Write an index, and the annotations beside it as ``annotations.json``.

    Images keep the JSON's order. Classes are numbered in the order of their ids.

    Args:
        annotations: a COCO instance JSON, or its content; sound (see :func:`check_annotations`).
        images: folder that the file names are relative to; a relative one is kept relative to the
            index, so that both can move together.
        out: folder to write, made if missing.
        ranges: how values of more than 8 bits are scaled, see :mod:`condinst.files.pixels`.

    Raises:
        UserError: the JSON is missing, is no JSON, or refers to an image or category that it lacks.
    """
    content = read_coco(annotations) if isinstance(annotations, (str, Path)) else annotations
    out, images = Path(out), Path(images)
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.json").unlink(missing_ok=True)  # written last: an index without it is not whole
    categories = sorted(content["categories"], key=lambda category: category["id"])
    classes = {category["id"]: k for k, category in enumerate(categories)}
    report = gather(content, classes).write(out)
    write_json(dict(content), out / "annotations.json")
    root = str(images) if images.is_absolute() else os.path.relpath(images.resolve(), out.resolve())
    names = [{"id": category["id"], "name": category["name"]} for category in categories]
    meta = {"version": VERSION, "images": root, "categories": names, "ranges": dict(ranges or {})}
    (out / "index.json").write_text(json.dumps(meta, indent=2) + "\n")
    return report


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
