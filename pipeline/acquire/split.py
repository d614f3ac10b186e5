"""Random split of one COCO JSON into train and val, by a share and a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from condinst.errors import UserError
from pipeline.acquire.manifest import SplitPaths, digest, image_names
from pipeline.params import RandomSplit


def part(split: RandomSplit, whole: SplitPaths, folder: Path) -> dict[str, SplitPaths]:
    """Write both splits' JSONs; the images stay where they are.

    An image's split depends only on the seed and the list of ids. Entries of the same image, by id,
    file or content, stay together. Annotations follow their image; those without an image go to
    train, where `prepare` reports them.

    Args:
        split: share of val, seed.
        whole: JSON and images.
        folder: receives ``annotations/instances_{train,val}.json``.

    Raises:
        UserError: a file is missing or not COCO JSON, or a split would be empty.
    """
    from condinst.annotations.json_lists import edit, write_json
    from condinst.annotations.reading import read_coco

    image_names(whole.annotations, whole.images)  # says what is wrong with the file
    content = read_coco(whole.annotations)
    listed = content["images"]
    order = sorted(range(len(listed)), key=lambda k: _id(listed[k], "id"))
    firsts = _firsts(listed, order, whole.images)
    distinct = [k for k in order if firsts[k] == k]
    count = round(split.val_share * len(distinct))
    if not 0 < count < len(distinct):
        raise UserError(
            f"dataset.split.val_share: {split.val_share:g} of {len(distinct)} images is {count} "
            "for val; both splits need at least one"
        )
    chosen = np.random.default_rng(split.seed).permutation(len(distinct))[:count]
    val_firsts = {distinct[k] for k in chosen.tolist()}
    in_val = {k for k in order if firsts[k] in val_firsts}
    val_ids = {_id(listed[k], "id") for k in in_val}
    (folder / "annotations").mkdir(exist_ok=True)

    def chooser(val: bool) -> Callable[[Any], Any]:
        return lambda entry: entry if (_id(entry, "image_id") in val_ids) == val else None

    found = {}
    for name in ("train", "val"):
        half = {
            **content,
            "images": [image for k, image in enumerate(listed) if (k in in_val) == (name == "val")],
            "annotations": edit(content["annotations"], chooser(name == "val")),
        }
        if name == "val" and isinstance(content.get("info"), dict):  # reported once, for train
            said = {"unread", "mended"}
            half["info"] = {k: v for k, v in content["info"].items() if k not in said}
        path = folder / "annotations" / f"instances_{name}.json"
        write_json(half, path)
        found[name] = SplitPaths(path, whole.images)
    return found


def _firsts(listed: list[Any], order: list[int], images: Path) -> dict[int, int]:
    """For each entry, the first entry of the same image.

    Args:
        listed: entries of images.
        order: the order in which to visit them.
        images: folder of the files.
    """
    from condinst.annotations.file_names import Finder

    finder = Finder(images)
    names = [entry.get("file_name") if isinstance(entry, dict) else None for entry in listed]
    files = {
        k: images / found
        for k, name in enumerate(names)
        if isinstance(name, str) and (found := finder.find(name)) is not None
    }
    sizes = {k: path.stat().st_size for k, path in files.items()}
    shared = {size for size, times in Counter(sizes.values()).items() if times > 1}
    firsts: dict[int, int] = {}
    known: dict[Any, int] = {}
    for k in order:
        keys: list[Any] = [("id", _id(listed[k], "id"))]
        if k in files:
            keys.append(files[k])
            if sizes[k] in shared:
                keys.append(digest(files[k])["sha256"])
        first = next((known[key] for key in keys if key in known), k)
        firsts[k] = first
        known |= dict.fromkeys(keys, first)
    return firsts


def _id(entry: object, key: str) -> str:
    """An id of any type, for comparison."""
    from condinst.annotations.ids import canonical

    value = entry.get(key) if isinstance(entry, dict) else None
    plain = canonical(value)
    return str(value if plain is None else plain)
