"""What all formats share: the images of a folder, and what is read for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from condinst.errors import UserError
from condinst.files import images
from condinst.files import pixels as image_pixels
from condinst.files.text import read_text

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Thing:
    """One object: its class name, and COCO's ``segmentation``: polygons or a run-length mask."""

    name: str
    segmentation: Any


class Problem(str):
    """What is wrong with a label, and what it seems to mean, so that its region can be ignored.

    Attributes:
        thing: its class and region.
    """

    thing: Thing

    def __new__(cls, text: str, thing: Thing) -> Problem:
        """The text, with the thing."""
        found = super().__new__(cls, text)
        found.thing = thing
        return found


@dataclass
class Reading:
    """What was read for one image, and what could not be read.

    Attributes:
        size: (h, w) in pixels, as the image is seen: after EXIF rotation.
        things: in the order of the file.
        problems: each with file and place; the labels concerned are left out.
        mended: labels that were read although they are not written properly, likewise.
        ignored: number of objects that the labels themselves mark to be left out.
        labelled: whether there were labels, even empty ones.
    """

    size: tuple[int, int]
    things: list[Thing] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    ignored: int = 0
    labelled: bool = True


def find(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files below a folder, at any depth, with these suffixes; sorted by name."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file()
    )


def chosen(found: list[Path], folder: Path, names: Path | None, key: str) -> list[Path]:
    """The images of a split.

    Args:
        found: all images in the folder.
        folder: of images.
        names: a text file with one name or path per line, with or without suffix; None: all
            images in the folder.
        key: of params.yaml, for messages.

    Raises:
        UserError: there are none, a listed one is missing, or two differ only in their suffix.
    """
    by_stem: dict[str, Path] = {}
    for path in found:
        other = by_stem.setdefault(stem(path, folder), path)
        if other != path:
            raise UserError(
                f"{key}: {other} and {path.name} would share their labels; rename one of them"
            )
    if not found:
        raise UserError(f"{key}.images: {folder} has no images ({', '.join(SUFFIXES)})")
    if names is None:
        return found
    wanted, missing = [], []
    for line in filter(None, map(str.strip, read_text(names).splitlines())):
        path = _of_name(line, by_stem) or _of_name(line.split()[0], by_stem)  # VOC's have a flag
        (missing.append(line) if path is None else wanted.append(path))
    if missing:
        raise UserError(
            f"{key}.list: {names} lists {len(missing):,} images that are not in {folder}, e.g. "
            + ", ".join(missing[:5])
        )
    if not wanted:
        raise UserError(f"{key}.list: {names} lists no images")
    return sorted(set(wanted))


def _of_name(name: str, by_stem: dict[str, Path]) -> Path | None:
    path = Path(name)
    path = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return by_stem.get(path.as_posix()) or by_stem.get(path.name)


def stem(path: Path, folder: Path) -> str:
    """A file's path below a folder without suffix, by which images and labels are paired."""
    return path.relative_to(folder).with_suffix("").as_posix()


def size_of(path: Path) -> tuple[int, int]:
    """(h, w) of an image as it is seen.

    Raises:
        UserError: it is not an image.
    """
    with images.opened(path) as opened:
        w, h = image_pixels.seen_size(opened)
    return h, w


def stored_size(path: Path) -> tuple[int, int]:
    """(h, w) of an image as stored, before any rotation.

    Raises:
        UserError: it is not an image.
    """
    with images.opened(path) as opened:
        return opened.height, opened.width


def pixels(path: Path) -> NDArray[Any]:
    """A PNG of labels as numbers (h, w), or colours (h, w, 3) if it has no palette.

    Raises:
        UserError: it cannot be read.
    """
    with images.opened(path) as opened:
        mode = opened.mode
        if mode in ("RGB", "RGBA"):
            return image_pixels.rgb(opened)
        if mode in ("LA", "PA"):  # numbers, each with an opacity
            return np.asarray(opened)[..., 0]
        if mode == "1":
            return np.asarray(opened, np.uint8)
        if mode in ("L", "P", "I") or mode.startswith("I;16"):
            return np.asarray(opened)
    raise UserError(f"{path} has pixels of kind {mode}; labels must be numbers or RGB colours")


def encode(mask: NDArray[Any]) -> dict[str, Any]:
    """COCO's compressed run-length mask of a mask (h, w), ready for JSON."""
    return plain(mask_api.encode(np.asfortranarray(mask.astype(np.uint8))))


def plain(rle: dict[str, Any]) -> dict[str, Any]:
    """Convert pycocotools' run-length mask for JSON."""
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def rasterised(segmentation: Any, size: tuple[int, int]) -> Any:
    """Polygons, or one of our run-length masks, in pycocotools' form."""
    if isinstance(segmentation, list):
        return mask_api.merge(mask_api.frPyObjects(segmentation, *size))
    return {"size": list(size), "counts": segmentation["counts"].encode()}
