"""One COCO JSON parted into train and val, by a share and a seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from condinst.errors import UserError
from pipeline.acquire.manifest import SplitPaths, image_names
from pipeline.params import Parted


def part(parted: Parted, whole: SplitPaths, folder: Path) -> dict[str, SplitPaths]:
    """Write both halves' JSONs; the images stay where they are.

    An image's half depends on the seed and the list of ids alone. Annotations follow their image;
    those of no image go to train, where `prepare` names them.

    Args:
        parted: share of val, seed.
        whole: JSON and images.
        folder: gets ``annotations/instances_{train,val}.json``.

    Raises:
        UserError: a file is missing or no COCO JSON, or a half would be empty.
    """
    from condinst.annotations.json_lists import edit, write_json
    from condinst.annotations.reading import read_coco

    image_names(whole.annotations)  # says what is wrong with the file
    content = read_coco(whole.annotations)
    listed = content["images"]
    count = round(parted.val_share * len(listed))
    if not 0 < count < len(listed):
        raise UserError(
            f"dataset.split.val_share: {parted.val_share:g} of {len(listed)} images is {count} for "
            "val; both halves need at least one"
        )
    order = sorted(range(len(listed)), key=lambda k: _id(listed[k], "id"))
    chosen = np.random.default_rng(parted.seed).permutation(len(listed))[:count]
    in_val = {order[k] for k in chosen.tolist()}
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
        path = folder / "annotations" / f"instances_{name}.json"
        write_json(half, path)
        found[name] = SplitPaths(path, whole.images)
    return found


def _id(entry: object, key: str) -> str:
    """An id of any kind, for comparing."""
    from condinst.annotations.ids import canonical

    value = entry.get(key) if isinstance(entry, dict) else None
    plain = canonical(value)
    return str(value if plain is None else plain)
