"""The stage ``acquire``: a manifest of the dataset, drawn, linked or downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from condinst.atomic import atomic_folder
from condinst.errors import UserError
from condinst.files.names import expanded
from pipeline.acquire import directory, manifest
from pipeline.acquire.manifest import SplitPaths
from pipeline.console import terminal
from pipeline.disk import check_space, human_bytes
from pipeline.layout import RAW
from pipeline.params import Dataset, Params

DOWNLOADED = Path("data/coco2017")  # outside DVC's outputs, which DVC deletes before a stage runs

_PICTURE_BYTES = 40_000  # more than any drawn image takes, with its annotations
_ENTRY_BYTES = 400  # of the manifest, for a linked file


def run(params: Params) -> None:
    """Fill ``data/raw`` from ``dataset.source``, atomically.

    Raises:
        UserError: files are missing, the disk is full, or the download fails.
    """
    dataset = params.dataset
    try:
        with atomic_folder(RAW) as folder:
            content = _SOURCES[dataset.source](dataset, folder)
            (folder / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{RAW} could not be written: {error}; is the disk full?") from error
    size = sum(entry["bytes"] for entry in content["files"].values())
    images = len(content["files"]) - len(content["splits"])
    terminal().print(f"{dataset.name}: {images:,} images, {human_bytes(size)}, in {RAW}")


def _draw(dataset: Dataset, folder: Path) -> dict[str, Any]:
    from pipeline.acquire.sample import write_sample

    settings = dataset.sample
    assert settings is not None, dataset  # pipeline.rules requires it
    count = settings.train_images + settings.val_images
    check_space(folder, count * _PICTURE_BYTES, f"drawing {count:,} images")
    write_sample(
        folder,
        seed=settings.seed,
        train_images=settings.train_images,
        val_images=settings.val_images,
    )
    splits = {
        name: SplitPaths(folder / "annotations" / f"instances_{name}.json", folder / name)
        for name in directory.SPLITS
    }
    return manifest.build(dataset.name, dataset.source, splits, base=folder)


def _link(dataset: Dataset, folder: Path) -> dict[str, Any]:
    given = {name: getattr(dataset, name) for name in ("train", "val", "split")}
    foreign = {name: split for name, split in given.items() if split and split.format != "coco"}
    if foreign:
        from pipeline.acquire import formats

        converted = formats.convert(foreign, folder)
    else:
        converted = {}
    files = [path for found in converted.values() for path in found.files]
    folders = [found.folders for found in converted.values()]
    paths = {name: found.paths for name, found in converted.items()}
    if dataset.split is None:
        splits = directory.locate(dataset, paths)
    else:
        from pipeline.acquire.split import part

        whole = paths.get("split") or directory.coco_split(dataset.split)
        splits = part(dataset.split, whole, folder)
        if foreign:
            whole.annotations.unlink()
        else:
            files.append(whole.annotations)
    content = _linked(dataset, folder, splits)
    if files:
        content["sources"] = manifest.watched(files, folders)
    return content


def _download(dataset: Dataset, folder: Path) -> dict[str, Any]:
    from pipeline.acquire import coco2017

    root = (expanded(dataset.root) if dataset.root else DOWNLOADED).resolve()
    if dataset.subset is None:
        return _linked(dataset, folder, coco2017.fetch(root, dataset.mirror))
    from pipeline.acquire import subset

    splits, files = subset.fetch(root, dataset.mirror, dataset.subset, folder)
    content = _linked(dataset, folder, splits)
    if files:
        content["sources"] = manifest.watched(files, [])
    return content


def _linked(dataset: Dataset, folder: Path, splits: dict[str, SplitPaths]) -> dict[str, Any]:
    count = sum(
        len(manifest.image_names(split.annotations, split.images)) for split in splits.values()
    )
    check_space(folder, count * _ENTRY_BYTES, f"the manifest of {count:,} images")
    return manifest.build(dataset.name, dataset.source, splits, base=folder)


_SOURCES = {"sample": _draw, "directory": _link, "coco2017": _download}
