"""The stage ``prepare``: checked data, indexed for memory-mapped reading, with its statistics."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from condinst.atomic import atomic_folder
from condinst.errors import UserError
from pipeline.console import terminal
from pipeline.disk import check_space
from pipeline.layout import PREPARED, RAW
from pipeline.params import Params
from pipeline.prepare import classes, show
from pipeline.prepare import images as image_checks
from pipeline.prepare.categories import agree
from pipeline.prepare.depth import Depths, sentences
from pipeline.prepare.findings import Findings, few
from pipeline.prepare.parting import leave_out
from pipeline.prepare.remarks import as_objects, crowd_sentence, remarks
from pipeline.prepare.statistics import sides, statistics, table, write_csv

if TYPE_CHECKING:
    from condinst.annotations.checks import ImageFile
    from condinst.data.index import Index

FOUND = Path("data/faults.json")  # where nothing could be prepared
LIST = "faults.json"
_ON_SHEET = 24  # images

Record = dict[str, Any]


def run(params: Params) -> None:
    """Turn ``data/raw`` into ``data/prepared``, whole or not at all.

    Raises:
        UserError: the data cannot be used, or, under ``prepare.policy`` strict, has faults; all are
            counted by kind and listed in a file.
    """
    from condinst.annotations.json_lists import no_collection

    with no_collection():
        _run(params)


def _run(params: Params) -> None:
    from condinst.annotations.building import build_index
    from condinst.data.index import open_index

    manifest = _manifest()
    found, depths = Findings(), Depths()
    checked = {
        name: _check(name, split, manifest["files"], params, found, depths)
        for name, split in manifest["splits"].items()
    }
    wanted = params.dataset.classes or {}
    for name, content in checked.items():
        checked[name], left_out = classes.change(content, wanted)
        if left_out:
            terminal().print(f"{name}: {left_out:,} annotations of classes that are left out")
    agree(checked, params.prepare.policy, found)
    _part_with_shared(manifest, checked, params.prepare.policy, found)
    _part_with_dark(manifest, checked, depths, params.prepare.policy, found)
    _require_objects(checked, found)
    found.require_usable(FOUND)
    room = sum((RAW / s["annotations"]).stat().st_size for s in manifest["splits"].values())
    check_space(PREPARED, 3 * room, "the index")
    try:
        with atomic_folder(PREPARED) as folder:
            for name, content in checked.items():
                images = _beside(RAW / manifest["splits"][name]["images"])
                build_index(content, images, folder / name, depths.ranges())
            indexes = {name: open_index(folder / name) for name in checked}
            summary = _summary(params.dataset.name, manifest, indexes, found)
            summary["ranges"] = depths.ranges()
            summary["remarks"] += sentences(depths.ranges())
            _write(folder, summary, indexes, found)
            show.write_sheets(_ON_SHEET, 0, folder / "sheets", folder)
    except OSError as error:
        raise UserError(f"{PREPARED} could not be written: {error}; is the disk full?") from error
    terminal().print(table(summary))
    faults = found.table(PREPARED / LIST)
    if faults is not None:
        terminal().print(faults)
    for remark in summary["remarks"]:
        terminal().print(f"Note: {remark}")


def summary() -> Table:
    """A table of what the prepared dataset holds.

    Raises:
        UserError: there is none.
    """
    path = PREPARED / "dataset.json"
    try:
        return table(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run `python cli.py prepare` first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; run `python cli.py prepare` again") from error


def _manifest() -> Record:
    path = RAW / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        for split in manifest["splits"].values():
            _ = split["annotations"], split["images"]
        _ = manifest["files"].keys()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run `python cli.py acquire` first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged; run `python cli.py acquire` again") from error
    return manifest


def _beside(path: Path) -> Path:
    """A path that stays right when the whole project is moved, where it can be."""
    return path if path.is_absolute() else Path(os.path.relpath(path))


def _check(
    name: str,
    split: Record,
    files: Mapping[str, Record],
    params: Params,
    found: Findings,
    depths: Depths,
) -> Record:
    """A split's sound content; ``found`` gets what was wrong with the rest."""
    from condinst.annotations.checks import check_annotations
    from condinst.annotations.file_names import Finder
    from condinst.annotations.json_lists import edit
    from condinst.annotations.reading import read_coco

    _require_unchanged(split["annotations"], files)
    acquired = {RAW / path: entry for path, entry in files.items()}

    def look(images: list[Record]) -> list[ImageFile]:
        folder = RAW / split["images"]
        return image_checks.look(images, folder, acquired, f"Checking images of {name}", depths)

    content = read_coco(RAW / split["annotations"])
    if params.dataset.crowd == "objects":
        content["annotations"] = edit(content["annotations"], as_objects)
    finder = Finder(RAW / split["images"])
    result = check_annotations(
        content, params.prepare.policy, look, finder.find, regions=name == "val"
    )
    found.ignored[name] = result.ignored
    found.hints += [f"{name}: {hint}" for hint in result.hints]
    changed = [fault.reason for fault in result.faults if fault.kind == image_checks.CHANGED]
    found.faults[name] = [fault for fault in result.faults if fault.kind != image_checks.CHANGED]
    found.fatal += [f"{split['annotations']}: {message}" for message in result.fatal]
    if changed:
        found.fatal.append(
            f"{len(changed):,} images of {name} are not as they were acquired; run "
            f"`python cli.py acquire` again:\n  {few(changed)}"
        )
    elif not result.content["images"]:
        found.fatal.append(f"{split['annotations']} has no image that can be used for {name}")
    return result.content


def _require_unchanged(listed: str, files: Mapping[str, Record]) -> None:
    path = RAW / listed
    if not path.is_file():
        raise UserError(f"{path} is missing; run `python cli.py acquire` again")
    if listed in files and path.stat().st_size != files[listed]["bytes"]:
        raise UserError(
            f"{path} has changed since it was acquired; run `python cli.py acquire` again"
        )


@lru_cache
def _base(folder: Path, raw: Path) -> str:
    return str(folder.relative_to(raw)) if folder.is_relative_to(raw) else str(folder)


def _listed(folder: Path, name: str) -> str:
    """The key in the manifest of an image in a folder."""
    plain = not name.startswith(".") and "./" not in name and "//" not in name
    base = _base(folder, RAW)
    return f"{base}/{name}" if plain else str(Path(base) / name)


def _part_with_shared(
    manifest: Record, checked: dict[str, Record], policy: str, found: Findings
) -> None:
    """Leave images of val out of train, whatever their names: it must not know the answers."""
    if "train" not in checked:  # val alone
        return

    def keys(split: str) -> list[tuple[Record, str | None]]:
        folder = RAW / manifest["splits"][split]["images"]
        return [
            (image, manifest["files"].get(_listed(folder, image["file_name"]), {}).get("sha256"))
            for image in checked[split]["images"]
        ]

    known = {digest: image["file_name"] for image, digest in keys("val") if digest is not None}
    shared = {image["id"]: (image, known[d]) for image, d in keys("train") if d in known}
    if not shared:
        return
    reasons = {number: f"val has the same image, as {name}" for number, (_, name) in shared.items()}
    if len(reasons) == len(checked["train"]["images"]):
        found.fatal.append("every image of train is one of val too; a model must not know val's")
    checked["train"] = leave_out(
        "train", checked["train"], reasons, "image in train and val", policy, found
    )


def _part_with_dark(
    manifest: Record, checked: dict[str, Record], depths: Depths, policy: str, found: Findings
) -> None:
    """Leave out images that would be black, since others of the same kind reach so much higher."""
    ranges = depths.ranges()
    for split, content in checked.items():
        folder = RAW / manifest["splits"][split]["images"]
        reasons = {
            image["id"]: reason
            for image in (content["images"] if depths.images else ())
            if (reason := depths.dark(folder / image["file_name"], ranges)) is not None
        }
        checked[split] = leave_out(split, content, reasons, "image too dark", policy, found)


def _require_objects(checked: Mapping[str, Record], found: Findings) -> None:
    """There must be something to learn, and should be something to measure."""
    for split, content in checked.items():
        if not content["images"] or any(not entry["iscrowd"] for entry in content["annotations"]):
            continue
        count = len(content["annotations"])
        if split == "train":
            why = f": {crowd_sentence(count, count)}" if count else ""
            found.fatal.append(f"no image of train has an object; there is nothing to learn{why}")
        else:
            terminal().print(f"{split}: no image has an object; AP will be undefined")


def _summary(name: str, manifest: Record, indexes: Mapping[str, Index], found: Findings) -> Record:
    splits = {
        split: statistics(index, found.count(split, "dropped"), found.ignored.get(split, 0))
        for split, index in indexes.items()
    }
    return {
        "name": name,
        "hash": _content_hash(manifest, indexes),
        "categories": next(iter(indexes.values())).categories,
        "splits": splits,
        "remarks": [*found.hints, *remarks(splits)],
    }


def _content_hash(manifest: Record, indexes: Mapping[str, Index]) -> str:
    """Identifies annotations and pixels, wherever the files lie and however they were written."""
    digest = hashlib.sha256()
    for split, index in sorted(indexes.items()):
        digest.update(split.encode())
        digest.update(json.dumps(index.categories, sort_keys=True).encode())
        for values in index.arrays():
            digest.update(np.ascontiguousarray(values).data)
        folder = RAW / manifest["splits"][split]["images"]
        for file_name in index.file_names():
            entry = manifest["files"].get(_listed(folder, file_name), {})
            digest.update(entry.get("sha256", "").encode())
    return digest.hexdigest()


def _write(folder: Path, summary: Record, indexes: Mapping[str, Index], found: Findings) -> None:
    (folder / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n")
    found.write(folder / LIST)
    (folder / "plots").mkdir()
    splits = summary["splits"]
    classes = [
        (entry["name"], *(split["per_category"][entry["name"]] for split in splits.values()))
        for entry in summary["categories"]
    ]
    write_csv(folder / "plots/class_counts.csv", ["class", *splits], classes)
    write_csv(folder / "plots/object_sizes.csv", ["side", *splits], sides(indexes.values()))
