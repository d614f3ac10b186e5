"""From annotations to an index on disk (its layout: :mod:`condinst.data.index`)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condinst.annotations.gathering import IndexReport, gather
from condinst.annotations.json_lists import write_json
from condinst.annotations.reading import read_coco
from condinst.data.index import VERSION


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
