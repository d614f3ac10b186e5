"""What the files of images hold, read by many threads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track

if TYPE_CHECKING:
    from condinst.annotations.checks import Picture

CHANGED = "picture changed"

_ORIENTATION = 0x0112  # EXIF; 5 to 8 are turned by 90 degrees
_CONVERTED = {
    "CMYK": "CMYK, converted to RGB",
    "I": "16-bit grey, reduced to 8 bits",
    "I;16": "16-bit grey, reduced to 8 bits",
    "I;16B": "16-bit grey, reduced to 8 bits",
    "RGBA": "RGB with an alpha channel, which is left out",
    "LA": "grey with an alpha channel, which is left out",
    "PA": "palette with an alpha channel, which is left out",
}

Record = dict[str, Any]


def look(
    images: Sequence[Record], folder: Path, files: Mapping[Path, Record], title: str
) -> list[Picture]:
    """Decode each image's file.

    Args:
        images: entries of the JSON.
        folder: that their names are relative to.
        files: what `acquire` read: size and checksum. One that is no longer so is ``CHANGED``.
        title: of the progress bar.
    """

    def look_at(image: Record) -> Picture:
        path = folder / image["file_name"]
        return _picture(path, files.get(path))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(track(pool.map(look_at, images), title, len(images)))


def _picture(path: Path, acquired: Record | None) -> Picture:
    from condinst.annotations.checks import Picture
    from condinst.errors import UserError
    from condinst.files import images as image_files

    try:
        if acquired is not None and path.stat().st_size != acquired["bytes"]:
            return Picture((), CHANGED, f"{path} has changed since it was acquired")
        with image_files.opened(path) as opened:
            opened.load()
            size, mode = opened.size, opened.mode
            orientation = opened.getexif().get(_ORIENTATION, 1)
            turned = orientation in (5, 6, 7, 8)
    except (OSError, UserError) as error:
        if isinstance(error, UserError) and path.is_file():
            return Picture((), "picture unreadable", str(error))
        if acquired is not None:
            return Picture((), CHANGED, f"{path} is missing, though it was acquired")
        return Picture((), "picture missing", f"there is no file {path}")
    sizes = (size[::-1], size) if turned else (size,)
    if mode in _CONVERTED:
        return Picture(sizes, "picture converted", f"it is {_CONVERTED[mode]}")
    return Picture(sizes)
