"""Where a split's images, labels and names are, for each format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from condinst.errors import UserError
from condinst.files.names import expanded
from pipeline.acquire.formats import labelme, names, voc, yolo
from pipeline.acquire.formats.image_files import SUFFIXES, Reading, chosen, find, stem
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
    image_files: list[Path]
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
    image_files: list[Path]
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
            image_files=self.image_files,
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

    def text_of(image_file: Path) -> Path:
        return folder / f"{stem(image_file, basis.images)}.txt"

    strays = set(find(folder, (".txt",))) - {text_of(image_file) for image_file in basis.found}
    problems = [
        f"{path} has no image in {basis.images}"
        for path in sorted(strays)
        if path.name != "classes.txt"  # some tools put it there
    ]
    texts = [path for path in map(text_of, basis.image_files) if path.is_file()]
    return basis.source(
        lambda image_file: yolo.read(image_file, text_of(image_file), named),
        folder,
        ".txt",
        texts,
        problems,
    )


def _voc(basis: _Basis) -> Source:
    key = f"{basis.key}.labels"
    root = _folder(basis.split.labels or basis.images.parent, key)
    objects, classes = _folder(root / voc.OBJECTS, key), _folder(root / voc.CLASSES, key)
    named = basis.names or list(voc.VOC_NAMES)
    image_files = basis.image_files

    def masks_of(image_file: Path) -> tuple[Path, Path]:
        name = f"{stem(image_file, basis.images)}.png"
        return objects / name, classes / name

    if not basis.split.list:  # most of VOC's images have no masks
        image_files = [path for path in image_files if masks_of(path)[0].is_file()]
        if not image_files:
            raise UserError(f"{key}: {objects} has no masks for the images in {basis.images}")
        left_out = len(basis.image_files) - len(image_files)
        if left_out:
            terminal().print(f"{basis.key}: {left_out:,} images without masks are left out")
    masks = [path for image_file in image_files for path in masks_of(image_file) if path.is_file()]
    return dataclasses.replace(basis, image_files=image_files, names=named).source(
        lambda image_file: voc.read(image_file, *masks_of(image_file), named),
        objects,
        ".png",
        masks,
    )


def _labelme(basis: _Basis) -> Source:
    folder = _folder(basis.split.labels or basis.images, f"{basis.key}.labels")
    files = find(folder, (".json",))
    if not files:
        raise UserError(f"{basis.key}.labels: {folder} has no LabelMe JSON")
    pairs, problems = labelme.pair(files, basis.found, basis.images)
    used = [pairs[image_file] for image_file in basis.image_files if image_file in pairs]
    return basis.source(
        lambda image_file: labelme.read(image_file, pairs.get(image_file)),
        folder,
        ".json",
        used,
        problems,
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
