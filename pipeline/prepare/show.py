"""What a prepared dataset looks like: sheets of its pictures with masks."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pipeline.layout import PREPARED

SHEETS = Path("outputs/data")


def write_sheets(
    images: int, seed: int, folder: Path = SHEETS, prepared: Path = PREPARED
) -> list[Path]:
    """Write a sheet of pictures with their masks drawn in for each split.

    Args:
        images: on a sheet, at most.
        seed: chooses them.
        folder: gets ``train.jpg`` and ``val.jpg``.
        prepared: what the stage ``prepare`` left.

    Raises:
        UserError: nothing is prepared, or a picture cannot be read.
    """
    from condinst.data.index import open_index
    from condinst.inference.contact_sheet import contact_sheet

    there = [split for split in ("train", "val") if (prepared / split).is_dir()]
    found = []
    for split in there or ("val",):
        sheet = contact_sheet(open_index(prepared / split), images=images, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        found.append(folder / f"{split}.jpg")
        Image.fromarray(sheet).save(found[-1], quality=90)
    return found
