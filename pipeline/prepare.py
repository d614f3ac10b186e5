"""The stage ``prepare``: checked data, indexed for memory-mapped reading, with its statistics."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from condinst.errors import UserError
from pipeline import classes
from pipeline.folders import check_space, replaced
from pipeline.params import Params
from pipeline.statistics import sides, statistics, table, write_csv

if TYPE_CHECKING:
    from condinst.data import AnnotationFault

RAW = Path("data/raw")
PREPARED = Path("data/prepared")

_SHOWN = 8

Record = dict[str, Any]


def run(params: Params) -> None:
    """Turn ``data/raw`` into ``data/prepared``, whole or not at all.

    Raises:
        UserError: image files are missing or do not decode, or, under ``prepare.policy`` strict,
            annotations have faults; all are named.
    """
    manifest = _manifest()
    from condinst.data import build_index

    checked: dict[str, Record] = {}
    faults: dict[str, list[AnnotationFault]] = {}
    for name, split in manifest["splits"].items():
        checked[name], faults[name] = _check(name, split, manifest["files"])
    wanted = params.dataset.classes or {}
    for name, content in checked.items():
        checked[name], left_out = classes.change(content, wanted)
        if left_out:
            Console().print(f"{name}: {left_out:,} annotations of classes that are left out")
    _agree(checked)
    _part_with_shared(manifest, checked, faults)
    refused = sum(map(len, faults.values()))
    if refused and params.prepare.policy == "strict":
        raise UserError(_describe(faults, refused))
    room = sum((RAW / s["annotations"]).stat().st_size for s in manifest["splits"].values())
    check_space(PREPARED, 3 * room, "the index")
    try:
        with replaced(PREPARED) as folder:
            for name, content in checked.items():
                images = _beside(RAW / manifest["splits"][name]["images"])
                build_index(content, images, folder / name)
            summary = _summary(params.dataset.name, manifest, checked, faults)
            _write(folder, summary, checked, faults)
    except OSError as error:
        raise UserError(f"{PREPARED} could not be written: {error}; is the disk full?") from error
    Console().print(table(summary))


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
    name: str, split: Record, files: Mapping[str, Record]
) -> tuple[Record, list[AnnotationFault]]:
    """A split's sound content, and what was wrong with the rest."""
    from condinst.data import AnnotationFault, check_annotations
    from condinst.data.index import read_coco

    _require_unchanged(split["annotations"], files)
    result = check_annotations(read_coco(RAW / split["annotations"]))
    content = result.content
    problems = _unreadable(name, content["images"], split["images"], files)
    found = [AnnotationFault("image", number, reason) for number, reason in problems.items()]
    images = [image for image in content["images"] if image["id"] not in problems]
    kept = [entry for entry in content["annotations"] if entry["image_id"] not in problems]
    found += [
        AnnotationFault("annotation", entry["id"], f"its image {entry['image_id']} cannot be used")
        for entry in content["annotations"]
        if entry["image_id"] in problems
    ]
    if not images:
        raise UserError(f"{split['annotations']} has no image that can be used for {name}")
    if result.renumbered:
        Console().print(
            f"{name}: {result.renumbered} annotations got a new id, since COCO's evaluator never "
            "matches one of id 0 or less, or without any"
        )
    return {**content, "images": images, "annotations": kept}, [*result.faults, *found]


def _require_unchanged(listed: str, files: Mapping[str, Record]) -> None:
    path = RAW / listed
    if not path.is_file():
        raise UserError(f"{path} is missing; run `python cli.py acquire` again")
    if listed in files and path.stat().st_size != files[listed]["bytes"]:
        raise UserError(
            f"{path} has changed since it was acquired; run `python cli.py acquire` again"
        )


def _unreadable(
    name: str, images: list[Record], folder: str, files: Mapping[str, Record]
) -> dict[int, str]:
    """Images that cannot be used, with the reason.

    Raises:
        UserError: files that the manifest lists are missing, changed or do not decode.
    """

    def look(image: Record) -> str | None:
        return _picture_problem(RAW / folder / image["file_name"], image, files)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(track(pool.map(look, images), f"Checking pictures of {name}", len(images)))
    faulty, refused = [], {}
    for image, problem in zip(images, problems, strict=True):
        if problem is None:
            continue
        path = RAW / folder / image["file_name"]
        if problem.startswith("it is"):
            refused[image["id"]] = problem
        else:
            faulty.append(f"{path} {problem}")
    if faulty:
        more = [f"and {len(faulty) - _SHOWN} more"] if len(faulty) > _SHOWN else []
        raise UserError(
            f"{len(faulty)} of the {len(images)} pictures of {name} cannot be read:\n  "
            + "\n  ".join(faulty[:_SHOWN] + more)
            + "\nReplace them, or take them out of the annotations; then `python cli.py acquire`."
        )
    return refused


def _picture_problem(path: Path, image: Record, files: Mapping[str, Record]) -> str | None:
    from PIL import Image

    entry = files.get(_listed(path))
    try:
        if entry is not None and path.stat().st_size != entry["bytes"]:
            return "has changed since it was acquired"
        with Image.open(path) as opened:
            opened.load()
            sizes = opened.size, opened.size[::-1]
            orientation = opened.getexif().get(0x0112, 1)
    except FileNotFoundError:
        return "is missing"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"does not decode: {error}"
    # 5 to 8 are turned by 90 degrees; annotations may be drawn on either
    allowed = sizes if orientation >= 5 else sizes[:1]
    stated = image["width"], image["height"]
    if stated not in allowed:
        return f"it is {sizes[0][0]} x {sizes[0][1]}, the annotations say {stated[0]} x {stated[1]}"
    return None


def _listed(path: Path) -> str:
    """A file's key in the manifest."""
    return str(path.relative_to(RAW)) if path.is_relative_to(RAW) else str(path)


def _part_with_shared(
    manifest: Record, checked: dict[str, Record], faults: dict[str, list[AnnotationFault]]
) -> None:
    """Leave pictures of val out of train, whatever their names: a model must not know the answers.

    Raises:
        UserError: train would be empty.
    """
    from condinst.data import AnnotationFault

    if "train" not in checked:  # val alone
        return

    def keys(split: str) -> list[tuple[Record, str | None]]:
        folder = RAW / manifest["splits"][split]["images"]
        paths = ((image, folder / image["file_name"]) for image in checked[split]["images"])
        files = manifest["files"]
        return [(image, files.get(_listed(path), {}).get("sha256")) for image, path in paths]

    known = {digest: image["file_name"] for image, digest in keys("val") if digest is not None}
    shared = {image["id"]: known[digest] for image, digest in keys("train") if digest in known}
    if not shared:
        return
    train = checked["train"]
    images = [image for image in train["images"] if image["id"] not in shared]
    if not images:
        raise UserError("every picture of train is one of val too; a model must not know val's")
    kept = [entry for entry in train["annotations"] if entry["image_id"] not in shared]
    faults["train"] += [
        AnnotationFault("image", number, f"val has the same picture, as {name}")
        for number, name in shared.items()
    ]
    checked["train"] = {**train, "images": images, "annotations": kept}


def _agree(checked: Mapping[str, Record]) -> None:
    """Both splits must number the same categories alike.

    Raises:
        UserError: they do not, or there is none, or a name stands twice.
    """
    lists = {
        split: {entry["id"]: entry["name"] for entry in content["categories"]}
        for split, content in checked.items()
    }
    (first, expected), *rest = lists.items()
    for other, found in rest:
        if found != expected:
            differing = sorted(set(found.items()) ^ set(expected.items()))[:_SHOWN]
            raise UserError(
                f"{first} and {other} list different categories, e.g. {differing}; both need the "
                "same ids and names"
            )
    if not expected:
        raise UserError("the annotations list no category; there is nothing to learn")
    twice = [name for name, count in Counter(expected.values()).items() if count > 1]
    if twice:
        raise UserError(f"categories of different ids share a name: {', '.join(twice)}; rename one")


def _describe(faults: Mapping[str, list[AnnotationFault]], count: int) -> str:
    rows = [
        f"  {split} {fault.kind} {fault.id}: {fault.reason}"
        for split, found in faults.items()
        for fault in found
    ]
    return (
        f"the data has {count} faults:\n"
        + "\n".join(rows)
        + "\nCorrect them, or set prepare.policy: drop to go on without what is faulty."
    )


def _summary(
    name: str,
    manifest: Record,
    checked: Mapping[str, Record],
    faults: Mapping[str, list[AnnotationFault]],
) -> Record:
    categories = sorted(next(iter(checked.values()))["categories"], key=lambda entry: entry["id"])
    return {
        "name": name,
        "hash": _content_hash(manifest, checked),
        "categories": [{"id": entry["id"], "name": entry["name"]} for entry in categories],
        "splits": {
            split: statistics(content, len(faults[split])) for split, content in checked.items()
        },
    }


def _content_hash(manifest: Record, checked: Mapping[str, Record]) -> str:
    """Identifies annotations and pixels, wherever the files lie."""
    digest = hashlib.sha256()
    for split, content in sorted(checked.items()):
        used = {key: content[key] for key in ("images", "annotations", "categories")}
        digest.update(split.encode())
        digest.update(json.dumps(used, sort_keys=True).encode())
        folder = RAW / manifest["splits"][split]["images"]
        for image in content["images"]:
            entry = manifest["files"].get(_listed(folder / image["file_name"]), {})
            digest.update(entry.get("sha256", "").encode())
    return digest.hexdigest()


def _write(
    folder: Path,
    summary: Record,
    checked: Mapping[str, Record],
    faults: Mapping[str, list[AnnotationFault]],
) -> None:
    (folder / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n")
    refused = {split: [vars(fault) for fault in found] for split, found in faults.items()}
    (folder / "refused.json").write_text(json.dumps(refused, indent=1, default=str) + "\n")
    (folder / "plots").mkdir()
    splits = summary["splits"]
    classes = [
        (entry["name"], *(split["per_category"][entry["name"]] for split in splits.values()))
        for entry in summary["categories"]
    ]
    write_csv(folder / "plots/class_counts.csv", ["class", *splits], classes)
    write_csv(folder / "plots/object_sizes.csv", ["side", *splits], sides(checked))
