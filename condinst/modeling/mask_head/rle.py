"""Masks as COCO's runs (see `condinst.annotations.rle` for the text)."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from pycocotools import mask as rle_tools
from torch import Tensor


class Rle(TypedDict):
    """One mask: ``size`` [height, width] and the compressed ``counts``."""

    size: list[int]
    counts: bytes


def encode_masks(masks: Tensor) -> list[Rle]:
    """(K, h, w) bool -> K runs."""
    pixels = masks.detach().cpu().numpy().view(np.uint8)
    return rle_tools.encode(np.asfortranarray(pixels.transpose(1, 2, 0)))
