"""The augmentations that a config asks for, as detectron2 augmentations."""

from __future__ import annotations

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from numpy.typing import NDArray

from condinst.data.crop import CropAroundObject
from condinst.data.input_config import input_section
from condinst.data.resizing import Resize

_GREY = 128.0  # value of padded pixels


def training_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """In order: crop of the original, resizing, flip, crop to a fixed size, colour.

    Random numbers come from numpy's global state, as in detectron2.

    Args:
        cfg: whose ``INPUT`` has no problems (see
            :func:`condinst.data.input_config.input_problems`).
    """
    crop, lsj, fixed = cfg.INPUT.CROP, input_section(cfg, "LSJ"), input_section(cfg, "FIXED_CROP")
    resize, *flip = detection_utils.build_augmentation(cfg, is_train=True)
    found: list[T.Augmentation] = []
    if crop.ENABLED:
        cuts = getattr(crop, "CROP_INSTANCE", True)
        found.append(CropAroundObject(crop.TYPE, crop.SIZE, cuts_objects=cuts))
    if lsj.ENABLED:
        resize = T.ResizeScale(lsj.MIN_SCALE, lsj.MAX_SCALE, *lsj.SIZE)
    found += [Resize(resize), *flip]
    if lsj.ENABLED:
        found.append(_to_size(lsj.SIZE, pad=True))
    elif fixed.ENABLED:
        if fixed.AROUND_OBJECT:
            found.append(CropAroundObject("absolute", tuple(fixed.SIZE)))
        if not fixed.AROUND_OBJECT or fixed.PAD:
            found.append(_to_size(fixed.SIZE, pad=fixed.PAD))
    return found + _colors(cfg)


def cuts_objects(cfg: CfgNode) -> bool:
    """Whether objects may be cut, so that their boxes are no longer tight."""
    return any(input_section(cfg, name).ENABLED for name in ("CROP", "LSJ", "FIXED_CROP"))


def _to_size(size: list[int], *, pad: bool) -> T.Augmentation:
    # detectron2 pads masks with 255 unless told: objects would reach into the padding
    return T.FixedSizeCrop(tuple(size), pad=pad, pad_value=_GREY, seg_pad_value=0)


def _colors(cfg: CfgNode) -> list[T.Augmentation]:
    color = input_section(cfg, "COLOR")
    found: list[T.Augmentation] = [
        kind(1 - value, 1 + value)
        for kind, value in (
            (T.RandomBrightness, color.BRIGHTNESS),
            (T.RandomContrast, color.CONTRAST),
            (T.RandomSaturation, color.SATURATION),
        )
        if value
    ]
    if color.LIGHTING:
        found.append(T.RandomLighting(color.LIGHTING))
    if cfg.INPUT.FORMAT == "BGR":
        found = [OnRgb(augmentation) for augmentation in found]
    if color.PROBABILITY < 1:
        found = [T.RandomApply(augmentation, color.PROBABILITY) for augmentation in found]
    return found


class OnRgb(T.Augmentation):
    """A colour augmentation for BGR images: detectron2's expect red as the first channel.

    Args:
        augmentation: for RGB pixels.
    """

    def __init__(self, augmentation: T.Augmentation) -> None:
        super().__init__()
        self.augmentation = augmentation

    def get_transform(self, image: NDArray[np.uint8]) -> T.Transform:
        """Choose the change for a BGR image (h, w, 3)."""
        return _RgbTransform(self.augmentation.get_transform(image[:, :, ::-1]))


class _RgbTransform(T.Transform):
    """Coordinates and masks stay as they are."""

    def __init__(self, transform: T.Transform) -> None:
        super().__init__()
        self.transform = transform

    def apply_image(self, img: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.transform.apply_image(img[:, :, ::-1])[:, :, ::-1])

    def apply_coords(self, coords: NDArray[np.float64]) -> NDArray[np.float64]:
        return coords

    def apply_segmentation(self, segmentation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return segmentation

    def inverse(self) -> T.Transform:
        return T.NoOpTransform()
