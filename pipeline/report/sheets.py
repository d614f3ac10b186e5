"""Sheets of the data's images with masks, as `prepare` drew them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.report.collect import Findings
from pipeline.report.pictures import Picture

_SPLITS = {"train": "training", "val": "validation"}


def sheets(found: Findings) -> list[Picture]:
    """One for each split; none where `prepare` left none."""
    made = []
    for split, name in _SPLITS.items():
        path = found.layout.prepared / "sheets" / f"{split}.jpg"
        if path.is_file():
            with Image.open(path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            alt = f"{name} images by chance, with masks; crowd regions are outlined in black"
            made.append(Picture(f"sheet_{split}", alt, pixels))
    return made
