"""The manifest that acquire writes: where annotations and images are, and each file's hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from condinst.errors import UserError
from condinst.files.names import brief, problem
from pipeline.console import terminal

_SHOWN = 8


@dataclass(frozen=True)
class SplitPaths:
    """One split: its COCO JSON and the folder to which its file names are relative."""

    annotations: Path
    images: Path


def build(
    name: str, source: str, splits: dict[str, SplitPaths], base: Path | None = None
) -> dict[str, Any]:
    """The manifest of a dataset; every file is read once.

    Args:
        name: of the dataset.
        source: where it comes from.
        splits: train and val.
        base: paths inside this folder are relative to it; all others are absolute.

    Raises:
        UserError: a JSON cannot be read, or all of its images are missing.
    """
    files: list[Path] = []
    for split in splits.values():
        names = image_names(split.annotations, split.images)
        listed = [split.images / file_name for file_name in names]
        files += [split.annotations, *_require(listed, split)]
    files = list(dict.fromkeys(files))

    def named(path: Path) -> str:
        inside = base is not None and path.is_relative_to(base)
        return str(path.relative_to(base) if base is not None and inside else path.absolute())

    return {
        "name": name,
        "source": source,
        "splits": {
            key: {"annotations": named(split.annotations), "images": named(split.images)}
            for key, split in splits.items()
        },
        "files": {named(path): entry for path, entry in zip(files, _read(files), strict=True)},
    }


def watched(
    files: Iterable[Path], searched: Iterable[Mapping[Path, tuple[str, ...]]]
) -> dict[str, Any]:
    """The manifest's record of outside files that its own were made from.

    Args:
        files: labels, names, a JSON of which a subset was taken.
        searched: folders, with the suffixes searched for in them.
    """
    paths = sorted(set(files))
    return {
        "files": {str(path): entry for path, entry in zip(paths, _read(paths), strict=True)},
        "folders": [
            {"folder": str(folder), "suffixes": list(suffixes), "sha256": listing(folder, suffixes)}
            for folders in searched
            for folder, suffixes in folders.items()
        ],
    }


def listing(folder: Path, suffixes: Iterable[str]) -> str:
    """SHA-256 of the names of a folder's files with some suffixes, at any depth."""
    kinds = set(suffixes)
    found = (path for path in folder.rglob("*") if path.suffix.lower() in kinds)
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def image_names(annotations: Path, images: Path) -> list[str]:
    """File names of the images in a COCO JSON; spelled as the files are, if that differs.

    Entries without one, or with one that leads out of the image folder, are left to `prepare`,
    which says what is wrong with them.

    Raises:
        UserError: the file is missing, or has no such list or no entry with a name.
    """
    from condinst.annotations.file_names import Finder, leaves_folder
    from condinst.annotations.reading import read_coco

    content = read_coco(annotations)
    entries = [entry for entry in content["images"] if isinstance(entry, dict)]
    names = [entry.get("file_name") for entry in entries]
    texts = [name for name in names if isinstance(name, str) and name]
    if not texts:
        raise UserError(f"{annotations} lists no images, or none with a file_name that is text")
    finder = Finder(images)
    found = [finder.find(name) or name for name in texts]
    inside = [name for name in found if not leaves_folder(name) and problem(name) is None]
    if not inside:
        raise UserError(
            f"{annotations}: every file_name leads out of the image folder, such as "
            f"{brief(texts[0])}; they must be file names relative to it, without '..'"
        )
    return inside


def _require(listed: list[Path], split: SplitPaths) -> list[Path]:
    """The images that exist."""
    if not split.images.is_dir():
        raise UserError(
            f"{split.images} is missing; it should be the folder with the images that "
            f"{split.annotations} lists"
        )
    found = [path for path in listed if path.is_file()]
    missing = [path for path in listed if not path.is_file()]
    if not missing:
        return found
    shown = "".join(f"\n  {path}" for path in missing[:_SHOWN])
    more = f"\n  and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    text = (
        f"{len(missing):,} of the {len(listed):,} images that {split.annotations} lists are "
        f"missing:{shown}{more}"
    )
    if not found:
        raise UserError(f"{text}\n{_hint(missing[0], split)}")
    terminal().print(f"{text}\nprepare.policy decides what happens to their annotations.")
    return found


def _hint(missing: Path, split: SplitPaths) -> str:
    """A file name from the JSON next to that of an existing file."""
    from condinst.annotations.file_names import Finder

    there = Finder(split.images).example()
    if there is None:
        return f"{split.images} has no files; is it the right folder?"
    listed = str(missing.relative_to(split.images))
    return (
        f"The JSON lists {listed!r}, {split.images} has {there!r}. Is it the right folder? Names "
        "must be those of the files, relative to it."
    )


def _read(files: list[Path]) -> Iterable[dict[str, Any]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(pool.map(digest, files), "Reading files", len(files))


def digest(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as in the manifest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}
