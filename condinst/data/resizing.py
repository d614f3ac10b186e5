"""Resizing that never loses a side of an image, for training, evaluation and prediction."""

from __future__ import annotations

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from numpy.typing import NDArray


class Resize(T.Augmentation):
    """A detectron2 resizing in which each side keeps at least one pixel.

    Otherwise a strip of 1 x 5000 pixels fitted to 1333 would be 0 pixels high.

    Args:
        augmentation: chooses the size.
    """

    def __init__(self, augmentation: T.Augmentation) -> None:
        super().__init__()
        self.augmentation = augmentation

    def get_transform(self, image: NDArray[np.uint8]) -> T.Transform:
        """Choose the size for an image (h, w, 3)."""
        chosen = self.augmentation.get_transform(image)
        if isinstance(chosen, T.ResizeTransform) and min(chosen.new_h, chosen.new_w) < 1:
            sides = max(chosen.new_h, 1), max(chosen.new_w, 1)
            return T.ResizeTransform(chosen.h, chosen.w, *sides, chosen.interp)
        return chosen


def resize_for_test(cfg: CfgNode) -> Resize:
    """The resizing of evaluation and prediction: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST."""
    sizes = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    return Resize(T.ResizeShortestEdge(sizes[0], sizes[1], "choice"))
