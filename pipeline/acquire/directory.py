"""A dataset in an existing folder: linked by its manifest, never copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from condinst.errors import UserError
from condinst.files.names import expanded
from pipeline.acquire.manifest import SplitPaths
from pipeline.params import Dataset, Split

SPLITS = ("train", "val")
_JSONS = ("instances_{}2017.json", "instances_{}.json", "{}.json")
_FOLDERS = ("{}2017", "{}", "images/{}2017", "images/{}", "images")


def locate(dataset: Dataset, converted: Mapping[str, SplitPaths]) -> dict[str, SplitPaths]:
    """Find both splits.

    Args:
        dataset: with ``root``, a folder in COCO's layout, or with ``train`` and ``val``.
        converted: the splits converted from other formats.

    Returns:
        Absolute paths.

    Raises:
        UserError: something is missing; everything missing is listed.
    """
    if dataset.root is not None:
        return locate_layout(Path(dataset.root))
    found = {}
    problems = []
    for name in SPLITS:
        split = getattr(dataset, name)
        assert split is not None, name  # pipeline.rules requires both
        paths = converted.get(name) or coco_split(split)
        if not paths.annotations.is_file():
            problems.append(f"dataset.{name}.json: the file {split.json} does not exist")
        if not paths.images.is_dir():
            problems.append(f"dataset.{name}.images: the folder {split.images} does not exist")
        found[name] = paths
    if problems:
        raise UserError("\n".join(problems))
    return found


def coco_split(split: Split) -> SplitPaths:
    """A split in format coco, with absolute paths."""
    assert split.json is not None, split  # pipeline.rules requires it
    return SplitPaths(_absolute(split.json), _absolute(split.images))


def locate_layout(root: Path) -> dict[str, SplitPaths]:
    """Find both splits in a folder in COCO's layout or one of its usual variants.

    Raises:
        UserError: something is missing; everything missing is listed, with the paths tried.
    """
    root = _absolute(root)
    if not root.is_dir():
        raise UserError(f"dataset.root: the folder {root} does not exist")
    found, problems = {}, []
    for name in SPLITS:
        jsons = [root / "annotations" / pattern.format(name) for pattern in _JSONS]
        folders = [root / pattern.format(name) for pattern in _FOLDERS]
        json_path = next((path for path in jsons if path.is_file()), None)
        folder = next((path for path in folders if path.is_dir()), None)
        if json_path is None:
            problems.append(f"no annotations of {name}: {_tried(jsons, root)}")
        if folder is None:
            problems.append(f"no images of {name}: {_tried(folders, root)}")
        if json_path is not None and folder is not None:
            found[name] = SplitPaths(json_path, folder)
    if problems:
        raise UserError(
            f"dataset.root: {root} is not in COCO's layout\n  "
            + "\n  ".join(problems)
            + "\nFor other names set dataset.train and dataset.val, each with json and images."
        )
    return found


def _tried(paths: list[Path], root: Path) -> str:
    return "none of " + ", ".join(str(path.relative_to(root)) for path in paths)


def _absolute(path: str | Path) -> Path:
    return expanded(path).resolve()
