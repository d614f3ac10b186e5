"""What the prepared dataset looks like: its figures and sheets of its pictures with masks."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pipeline.prepare import PREPARED

SHEETS = Path("outputs/data")


def write_sheets(images: int, seed: int, folder: Path = SHEETS) -> list[Path]:
    """Write a sheet of pictures with their masks drawn in for each split.

    Args:
        images: on a sheet, at most.
        seed: chooses them.
        folder: gets ``train.jpg`` and ``val.jpg``.

    Raises:
        UserError: nothing is prepared, or a picture cannot be read.
    """
    from condinst.data import contact_sheet, open_index

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for split in ("train", "val"):
        sheet = contact_sheet(open_index(PREPARED / split), images=images, seed=seed)
        found.append(folder / f"{split}.jpg")
        Image.fromarray(sheet).save(found[-1], quality=90)
    return found
