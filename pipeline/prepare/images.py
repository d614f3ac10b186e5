"""What the files of images hold, read by many threads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track

from pipeline.prepare.depth import Depths

if TYPE_CHECKING:
    from condinst.annotations.checks import ImageFile

CHANGED = "image changed"

_CONVERTED = {
    "CMYK": "CMYK, converted to RGB",
    "RGBA": "RGB with an alpha channel, which is left out",
    "LA": "grey with an alpha channel, which is left out",
    "PA": "palette with an alpha channel, which is left out",
}

Record = dict[str, Any]


def look(
    images: Sequence[Record],
    folder: Path,
    files: Mapping[Path, Record],
    title: str,
    depths: Depths,
) -> list[ImageFile]:
    """Decode each image's file.

    Args:
        images: entries of the JSON.
        folder: that their names are relative to.
        files: what `acquire` read: size and checksum. One that is no longer so is ``CHANGED``.
        title: of the progress bar.
        depths: gets the values of images of more than 8 bits.
    """

    def look_at(image: Record) -> ImageFile:
        path = folder / image["file_name"]
        return _picture(path, files.get(path), depths)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(track(pool.map(look_at, images), title, len(images)))


def _picture(path: Path, acquired: Record | None, depths: Depths) -> ImageFile:
    from condinst.annotations.checks import ImageFile
    from condinst.errors import UserError
    from condinst.files import images as image_files
    from condinst.files import pixels

    try:
        if acquired is not None and path.stat().st_size != acquired["bytes"]:
            return ImageFile((), CHANGED, f"{path} has changed since it was acquired")
        with image_files.opened(path) as opened:
            mode, form = opened.mode, opened.format
            frames = getattr(opened, "n_frames", 1)
            sizes, kind, values = pixels.measured(opened)
    except (OSError, UserError) as error:
        if isinstance(error, UserError) and path.is_file():
            return ImageFile((), "image unreadable", str(error))
        if acquired is not None:
            return ImageFile((), CHANGED, f"{path} is missing, though it was acquired")
        return ImageFile((), "image missing", f"there is no file {path}")
    if kind is not None and values is not None:
        depths.add(path, kind, values)
    digest = acquired["sha256"] if acquired is not None else None
    if frames > 1 and form != "MPO":  # of a camera: the others are previews
        reason = f"it has {frames} pages or frames, of which the first is used"
        return ImageFile(sizes, "image of several pages", reason, digest)
    if kind is not None:
        reason = f"it is {pixels.KINDS[kind]}, scaled to 8 bits"
        return ImageFile(sizes, "image converted", reason, digest)
    if mode in _CONVERTED:
        return ImageFile(sizes, "image converted", f"it is {_CONVERTED[mode]}", digest)
    return ImageFile(sizes, digest=digest)
