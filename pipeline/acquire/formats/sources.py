"""Where a split's images, labels and names are, for each format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from condinst.errors import UserError
from condinst.files.names import expanded
from pipeline.acquire.formats import labelme, names, voc, yolo
from pipeline.acquire.formats.pictures import SUFFIXES, Reading, chosen, find, stem
from pipeline.console import terminal
from pipeline.params import Split

Reader = Callable[[Path], Reading]


@dataclass(frozen=True)
class Source:
    """A split before its labels are read.

    Attributes:
        key: of params.yaml.
        split: its value there.
        images: image folder.
        images: of the split, by name.
        names: of the classes, by number; None: as the labels have them.
        read: reads one image's labels.
        files: labels, names and list, to be watched.
        folders: those searched, with the suffixes searched for.
        problems: found so far.
    """

    key: str
    split: Split
    images: Path
    pictures: list[Path]
    names: list[str] | None
    read: Reader
    files: list[Path]
    folders: dict[Path, tuple[str, ...]]
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Basis:
    """What all formats share; ``found`` are all images in the folder."""

    key: str
    split: Split
    images: Path
    found: list[Path]
    pictures: list[Path]
    names: list[str] | None
    files: list[Path]

    def source(
        self,
        read: Reader,
        labels: Path,
        suffix: str,
        files: list[Path],
        problems: list[str] | None = None,
    ) -> Source:
        """The source, with the label folder and files to watch."""
        folders: dict[Path, tuple[str, ...]] = {self.images: SUFFIXES}
        folders[labels] = (*folders.get(labels, ()), suffix)
        return Source(
            key=self.key,
            split=self.split,
            images=self.images,
            pictures=self.pictures,
            names=self.names,
            read=read,
            files=[*self.files, *files],
            folders=folders,
            problems=problems or [],
        )


def locate(split: Split, key: str) -> Source:
    """Find the files that a split refers to.

    Args:
        split: of a format other than coco.
        key: of params.yaml, for messages.

    Raises:
        UserError: a folder or file is missing, or there are no images.
    """
    images = _folder(split.images, f"{key}.images")
    list_path = _file(split.list, f"{key}.list")
    names_path = _file(split.names, f"{key}.names")
    found = find(images)
    basis = _Basis(
        key,
        split,
        images,
        found,
        chosen(found, images, list_path, key),
        names.read(names_path, f"{key}.names") if names_path else None,
        [path for path in (list_path, names_path) if path is not None],
    )
    return _FORMATS[split.format](basis)


def _yolo(basis: _Basis) -> Source:
    folder = _folder(basis.split.labels or yolo.labels_folder(basis.images), f"{basis.key}.labels")
    assert basis.names is not None, basis.key  # pipeline.rules requires it
    named = basis.names

    def text_of(picture: Path) -> Path:
        return folder / f"{stem(picture, basis.images)}.txt"

    strays = set(find(folder, (".txt",))) - {text_of(picture) for picture in basis.found}
    problems = [
        f"{path} has no image in {basis.images}"
        for path in sorted(strays)
        if path.name != "classes.txt"  # some tools put it there
    ]
    texts = [path for path in map(text_of, basis.pictures) if path.is_file()]
    return basis.source(
        lambda picture: yolo.read(picture, text_of(picture), named), folder, ".txt", texts, problems
    )


def _voc(basis: _Basis) -> Source:
    key = f"{basis.key}.labels"
    root = _folder(basis.split.labels or basis.images.parent, key)
    objects, classes = _folder(root / voc.OBJECTS, key), _folder(root / voc.CLASSES, key)
    named = basis.names or list(voc.VOC_NAMES)
    pictures = basis.pictures

    def masks_of(picture: Path) -> tuple[Path, Path]:
        name = f"{stem(picture, basis.images)}.png"
        return objects / name, classes / name

    if not basis.split.list:  # most of VOC's images have no masks
        pictures = [path for path in pictures if masks_of(path)[0].is_file()]
        if not pictures:
            raise UserError(f"{key}: {objects} has no masks for the images in {basis.images}")
        left_out = len(basis.pictures) - len(pictures)
        if left_out:
            terminal().print(f"{basis.key}: {left_out:,} images without masks are left out")
    masks = [path for picture in pictures for path in masks_of(picture) if path.is_file()]
    return dataclasses.replace(basis, pictures=pictures, names=named).source(
        lambda picture: voc.read(picture, *masks_of(picture), named), objects, ".png", masks
    )


def _labelme(basis: _Basis) -> Source:
    folder = _folder(basis.split.labels or basis.images, f"{basis.key}.labels")
    files = find(folder, (".json",))
    if not files:
        raise UserError(f"{basis.key}.labels: {folder} has no LabelMe JSON")
    pairs, problems = labelme.pair(files, basis.found, basis.images)
    used = [pairs[picture] for picture in basis.pictures if picture in pairs]
    return basis.source(
        lambda picture: labelme.read(picture, pairs.get(picture)), folder, ".json", used, problems
    )


_FORMATS = {"yolo-seg": _yolo, "voc": _voc, "labelme": _labelme}


def _folder(path: str | Path, key: str) -> Path:
    found = expanded(path).resolve()
    if not found.is_dir():
        raise UserError(f"{key}: the folder {found} does not exist")
    return found


def _file(path: str | None, key: str) -> Path | None:
    if path is None:
        return None
    found = expanded(path).resolve()
    if not found.is_file():
        raise UserError(f"{key}: the file {found} does not exist")
    return found
