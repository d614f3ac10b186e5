"""What reads a hostile file of each kind, through the project's own entries.

A target gets the part that the file plays, the file, and an empty folder that it may fill.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from pipeline.console import terminal
from tests.fuzz import seeds

Target = Callable[[str, Path, Path], None]
POLICIES = ("repair", "drop", "strict")
STAGES = ("COCO", "YOLO", "VOC", "LabelMe")  # kinds that pass through stages
EVERY = [20]  # so many are read for one that passes through them whole
_PARAMS: list[Any] = []
_STORE: list[bytes] = []  # an empty database


def load(kinds: Iterable[str]) -> None:
    """Import all that some kinds' targets need, so that forks find it, by reading sound files."""
    from pipeline.params import load_params

    _PARAMS.append(load_params(seeds.PARAMS))
    home = Path.cwd()
    for kind in kinds:
        name, content = seeds.sound(kind)
        for whole in (False, True) if kind in STAGES else (False,):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "sound"
                file.write_bytes(content)
                work = Path(folder) / "work"
                work.mkdir()
                os.chdir(work)
                EVERY[0] = 1 if whole else 1 << 40
                # YOLO, VOC and LabelMe: one folder as both splits, which prepare refuses
                with contextlib.suppress(*([UserError] if whole else [])):
                    TARGETS[kind](name, file, work)
                os.chdir(home)
    EVERY[0] = 20


def coco(name: str, path: Path, folder: Path) -> None:
    """Acquire, prepare, and read the index as training does."""
    _stand(folder, "coco")
    shutil.copy(path, folder / "train.json")
    names = ("train", "val")
    _whole_or_part(path, {n: {"json": f"{n}.json", "images": "pictures"} for n in names})


def yolo(name: str, path: Path, folder: Path) -> None:
    """Labels, or the names of the classes."""
    _stand(folder, "yolo")
    shutil.copy(path, folder / name)
    named = "data.yaml" if name == "data.yaml" else "names.txt"
    split = {"format": "yolo-seg", "images": "images", "labels": "labels", "names": named}
    _whole_or_part(path, {"train": split, "val": split})


def voc(name: str, path: Path, folder: Path) -> None:
    """Masks of instances or classes, the list of a split, or the names."""
    _stand(folder, "voc")
    shutil.copy(path, folder / name)
    split = {"format": "voc", "images": "JPEGImages", "names": "names.txt"}
    if name == "list.txt":
        split["list"] = "list.txt"
    _whole_or_part(path, {"train": split, "val": split})


def labelme(name: str, path: Path, folder: Path) -> None:
    """An image's shapes."""
    _stand(folder, "labelme")
    shutil.copy(path, folder / "pictures" / name)
    split = {"format": "labelme", "images": "pictures"}
    _whole_or_part(path, {"train": split, "val": split})


def params(name: str, path: Path, folder: Path) -> None:
    """The experiment's parameters."""
    from pipeline.params import as_dict, load_params

    json.dumps(as_dict(load_params(path)))


def recipe(name: str, path: Path, folder: Path) -> None:
    """A model's recipe."""
    from condinst.config import load_config

    load_config(str(path)).dump()


def checkpoint(name: str, path: Path, folder: Path) -> None:
    """Weights, read and recognised."""
    from condinst.checkpoint.reading import find_state, load_checkpoint
    from condinst.checkpoint.recognise import recognise

    target = folder / name
    shutil.copy(path, target)
    tensors, _ = find_state(load_checkpoint(target))
    recognise(tensors)
    for tensor in tensors.values():
        tensor.clone()


def archive(name: str, path: Path, folder: Path) -> None:
    """Pictures that are unpacked."""
    from pipeline.acquire.archive import unpack

    unpack(path, folder / "out")
    outside = [p for p in folder.rglob("*") if not p.is_relative_to(folder / "out")]
    assert not outside, outside


def runs(name: str, path: Path, folder: Path) -> None:
    """Runs of another store, added to one that is empty."""
    from pipeline.tracking import archive as run_archive
    from pipeline.tracking import connect

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    database = folder / "mlflow.db"
    if _STORE:  # making one takes a second
        database.write_bytes(_STORE[0])
    else:
        connect(_PARAMS[0].tracking)
        _STORE.append(database.read_bytes())
    run_archive.import_runs(_PARAMS[0].tracking, path)


def image(name: str, path: Path, folder: Path) -> None:
    """An image, read wherever one is."""
    from condinst.data.images import read_oriented
    from pipeline.acquire.formats import image_files
    from pipeline.predict.media import read_image
    from pipeline.prepare import images
    from pipeline.prepare.depth import Depths

    target = folder / name
    shutil.copy(path, target)
    refused = None
    for read in (
        lambda: read_oriented(str(target)),
        lambda: read_image(target),
        lambda: image_files.size_of(target),
        lambda: image_files.pixels(target),
        lambda: images.look([{"file_name": name}], folder, {}, "Looking", Depths()),
    ):
        try:
            read()
        except ValueError as error:
            refused = error
    if refused is not None:
        raise refused


TARGETS: dict[str, Target] = {
    "COCO": coco,
    "YOLO": yolo,
    "VOC": voc,
    "LabelMe": labelme,
    "params": params,
    "recipe": recipe,
    "checkpoint": checkpoint,
    "archive": archive,
    "runs": runs,
    "image": image,
}


def _stand(folder: Path, kind: str) -> None:
    for name, content in seeds.stand(kind).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _whole_or_part(path: Path, splits: dict[str, dict[str, Any]]) -> None:
    """The readers alone; through the whole of both stages some, which takes much longer."""
    number = zlib.crc32(path.read_bytes())
    (_prepare if number % EVERY[0] == 0 else _read)(splits, POLICIES[number % 3])


def _read(splits: dict[str, dict[str, Any]], policy: str) -> None:
    from condinst.annotations.building import build_index
    from condinst.annotations.checks import check_annotations
    from condinst.annotations.reading import read_coco
    from pipeline.acquire import formats
    from pipeline.acquire.manifest import image_names
    from pipeline.params import Split
    from pipeline.prepare import images as looking
    from pipeline.prepare.depth import Depths
    from pipeline.prepare.findings import Findings

    split = Split(**splits["train"])
    if split.format == "coco":
        assert split.json is not None, split
        annotations, images = Path(split.json), Path(split.images)
    else:
        (Path.cwd() / "raw").mkdir()
        converted = formats.convert({"train": split}, Path.cwd() / "raw")["train"].paths
        annotations, images = converted.annotations, converted.images
    image_names(annotations, images)
    checked = check_annotations(
        read_coco(annotations),
        policy,
        lambda found: looking.look(found, images, {}, "Looking", Depths()),
    )
    findings = Findings({"train": checked.faults}, checked.fatal)
    shown = findings.table(Path("faults.json"))
    if shown is not None:
        terminal().print(shown)
    findings.require_usable(Path("faults.json"))
    build_index(checked.content, images, "data/prepared/train")
    _learn()


def _prepare(splits: dict[str, dict[str, Any]], policy: str) -> None:
    from condinst.evaluation.inputs import load_ground_truth
    from pipeline.acquire import stage as acquire
    from pipeline.params import Split
    from pipeline.prepare import stage as prepare

    given = {name: Split(**split) for name, split in splits.items()}
    base = _PARAMS[0]
    dataset = dataclasses.replace(base.dataset, source="directory", sample=None, root=None, **given)
    settings = dataclasses.replace(base.prepare, policy=policy)
    changed = dataclasses.replace(base, dataset=dataset, prepare=settings)
    acquire.run(changed)
    prepare.run(changed)
    _learn()
    load_ground_truth(Path("data/prepared/train/annotations.json"))


def _learn() -> None:
    """Read the index as training does."""
    from pycocotools import mask as mask_tools

    from condinst.data.index import open_index

    index = open_index("data/prepared/train")
    for entry in index:
        for thing in entry["annotations"]:
            mask = thing.get("segmentation")
            if mask is None:  # of some objects only the box is known
                continue
            if isinstance(mask, list):
                size = entry["height"], entry["width"]
                mask = mask_tools.merge(mask_tools.frPyObjects([p.tolist() for p in mask], *size))
            mask_tools.decode(mask)
