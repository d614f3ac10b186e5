"""What acquire leaves: where annotations and images lie, and what each file held."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from condinst.errors import UserError

_SHOWN = 8


@dataclass(frozen=True)
class SplitPaths:
    """One split: its COCO JSON and the folder that its file names are relative to."""

    annotations: Path
    images: Path


def build(
    name: str, source: str, splits: dict[str, SplitPaths], base: Path | None = None
) -> dict[str, Any]:
    """The manifest of a dataset, every file of it read once.

    Args:
        name: of the dataset.
        source: where it comes from.
        splits: train and val.
        base: folder that paths in it are given relative to; others, and all for None, absolute.

    Raises:
        UserError: files are missing or a JSON cannot be read; all missing ones are named.
    """
    files: list[Path] = []
    for split in splits.values():
        listed = [split.images / file_name for file_name in image_names(split.annotations)]
        _require(listed, split)
        files += [split.annotations, *listed]
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
    """What a manifest says of files outside of it that its own were made from.

    Args:
        files: labels, names, a JSON of which a part was taken.
        searched: folders with the suffixes of the files that were looked for in them.
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
    """SHA-256 of the names of a folder's files of some kinds, at any depth."""
    kinds = set(suffixes)
    found = (path for path in folder.rglob("*") if path.suffix.lower() in kinds)
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def image_names(annotations: Path) -> list[str]:
    """File names of the images that a COCO JSON lists.

    Raises:
        UserError: the file is missing or holds no such list.
    """
    from condinst.data.checks import leaves_folder  # slow: with torch, which --check need not load

    if not annotations.is_file():
        raise UserError(
            f"{annotations} is missing; it should hold the annotations in COCO's format"
        )
    try:
        names = [image["file_name"] for image in json.loads(annotations.read_bytes())["images"]]
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{annotations} is no COCO JSON ({detail}); it needs the list images, each with a "
            "file_name"
        ) from error
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{annotations} lists no image, or one whose file_name is no text")
    outside = [name for name in names if leaves_folder(name)]
    if outside:
        raise UserError(
            f"{annotations}: {len(outside):,} file_name lead out of the folder of images, such as "
            f"{outside[0]!r}; they must be relative to it and without '..'"
        )
    return names


def _require(listed: list[Path], split: SplitPaths) -> None:
    if not split.images.is_dir():
        raise UserError(
            f"{split.images} is missing; it should be the folder of the images that "
            f"{split.annotations} lists"
        )
    missing = [path for path in listed if not path.is_file()]
    if missing:
        shown = "".join(f"\n  {path}" for path in missing[:_SHOWN])
        more = f"\n  and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UserError(
            f"{len(missing)} of the {len(listed)} images that {split.annotations} lists are "
            f"missing:{shown}{more}\nPut them there, or take them out of the JSON."
        )


def _read(files: list[Path]) -> Iterable[dict[str, Any]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(pool.map(digest, files), "Reading files", len(files))


def digest(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as the manifest has them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}
