"""Cropping around an object."""

from __future__ import annotations

import numpy as np
from detectron2.data import transforms as T
from numpy.typing import NDArray


class CropAroundObject(T.RandomCrop):
    """A random crop that contains the centre of a randomly chosen object.

    An image without objects is cropped anywhere.

    Args:
        crop_type: as for detectron2's ``RandomCrop``.
        crop_size: as for ``RandomCrop``.
        cuts_objects: whether the border may cut objects; if not, the crop grows until it cuts none.
    """

    def __init__(
        self, crop_type: str, crop_size: tuple[float, float], *, cuts_objects: bool = True
    ) -> None:
        super().__init__(crop_type, crop_size)
        self.cuts_objects = cuts_objects

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the crop; at least one pixel."""
        height, width = super().get_crop_size(image_size)
        return max(int(height), 1), max(int(width), 1)

    def get_transform(self, image: NDArray[np.uint8], boxes: NDArray[np.float64]) -> T.Transform:
        """Choose the region.

        Args:
            image: (h, w, 3).
            boxes: (M, 4) xyxy.
        """
        if not len(boxes):
            return super().get_transform(image)
        size = np.array(image.shape[1::-1])  # w, h
        crop = np.minimum(self.get_crop_size(image.shape[:2])[::-1], size)
        box = boxes[np.random.randint(len(boxes))]  # noqa: NPY002  # the state that callers seed
        centre = np.clip((box[:2] + box[2:]) * 0.5, 0, size)
        low = np.maximum(np.ceil(centre - crop), 0).astype(int)
        high = np.minimum(np.floor(centre), size - crop).astype(int)
        start = np.array(
            [np.random.randint(min(a, b), b + 1) for a, b in zip(low, high, strict=True)]  # noqa: NPY002
        )
        end = start + crop
        if not self.cuts_objects:
            start, end = _grow(start, end, boxes, size)
        return T.CropTransform(*map(int, (*start, *(end - start))))


def _grow(
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    boxes: NDArray[np.float64],
    size: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Enlarge a region until it contains every box that it touches."""
    while True:
        touching = boxes[np.all((boxes[:, :2] < end) & (boxes[:, 2:] > start), axis=1)]
        if not len(touching):
            return start, end
        wider = np.minimum(start, np.floor(touching[:, :2].min(0))).clip(0).astype(int)
        taller = np.minimum(np.maximum(end, np.ceil(touching[:, 2:].max(0))), size).astype(int)
        if (wider == start).all() and (taller == end).all():
            return start, end
        start, end = wider, taller
