"""INPUT: image augmentations beyond detectron2's, all off by default."""

from __future__ import annotations

import math

from detectron2.config import CfgNode

from condinst.files.pixels import KINDS, Ranges

_CROPS = ("relative", "relative_range", "absolute", "absolute_range")


def add_input_config(cfg: CfgNode) -> None:
    """Add the keys, in place."""
    cfg.INPUT.CROP.CROP_INSTANCE = True  # AdelaiDet's; False: the region grows until it cuts none

    # Large-scale jitter, instead of MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: the image is fitted into
    # SIZE times a random factor, then cropped or padded to SIZE.
    cfg.INPUT.LSJ = lsj = CfgNode()
    lsj.ENABLED = False
    lsj.MIN_SCALE = 0.1
    lsj.MAX_SCALE = 2.0
    lsj.SIZE = [1024, 1024]  # height, width

    # A crop of fixed size in pixels, taken after resizing; INPUT.CROP crops before it.
    cfg.INPUT.FIXED_CROP = crop = CfgNode()
    crop.ENABLED = False
    crop.SIZE = [512, 512]  # height, width
    crop.PAD = False  # smaller images are padded to SIZE; False: they stay smaller
    crop.AROUND_OBJECT = False  # the region contains the centre of a randomly chosen object

    # Which masks training sees, for studies; the other objects count as having only a box.
    cfg.INPUT.MASKS = masks = CfgNode()
    masks.SHARE = 1.0
    masks.SEED = 0  # chooses them; with the same seed a larger share contains a smaller one

    # Each factor is drawn from 1 - value to 1 + value; 0: none.
    cfg.INPUT.COLOR = color = CfgNode()
    color.BRIGHTNESS = 0.0
    color.CONTRAST = 0.0
    color.SATURATION = 0.0
    color.LIGHTING = 0.0  # standard deviation of AlexNet's shift along ImageNet's colours
    color.PROBABILITY = 1.0  # of changing an image, for each of the four

    # Values of more than 8 bits: those that become 0 and 256. The pipeline sets them from the data;
    # # []: by each image's own range, from 0 to the smallest power of two that no value exceeds.
    cfg.INPUT.DEEP = deep = CfgNode()
    deep.INT16 = []
    deep.INT32 = []
    deep.FLOAT = []


def deep_ranges(cfg: CfgNode) -> dict[str, list[float]]:
    """How values of more than 8 bits are scaled, as :mod:`condinst.files.pixels` expects it."""
    deep = input_section(cfg, "DEEP")
    return {kind: list(deep[kind.upper()]) for kind in KINDS if len(deep[kind.upper()])}


def set_deep_ranges(cfg: CfgNode, ranges: Ranges) -> None:
    """The inverse of `deep_ranges`, in place."""
    for kind in KINDS:
        cfg.INPUT.DEEP[kind.upper()] = [float(value) for value in ranges.get(kind, ())]


def input_section(cfg: CfgNode, name: str) -> CfgNode:
    """``INPUT.<name>``, or our defaults if a plain detectron2 config lacks it."""
    if name not in cfg.INPUT:
        defaults = CfgNode({"INPUT": {"CROP": {}}})
        add_input_config(defaults)
        return defaults.INPUT[name]
    return cfg.INPUT[name]


def input_problems(cfg: CfgNode) -> list[str]:
    """What is wrong with the configured augmentations, one line each."""
    found: list[str] = []
    lsj, fixed, crop = cfg.INPUT.LSJ, cfg.INPUT.FIXED_CROP, cfg.INPUT.CROP
    if lsj.ENABLED:
        found += _side_problems("INPUT.LSJ.SIZE", lsj.SIZE)
        if not 0 < lsj.MIN_SCALE <= lsj.MAX_SCALE < math.inf:
            found.append(
                f"INPUT.LSJ.MIN_SCALE = {lsj.MIN_SCALE:g}, MAX_SCALE = {lsj.MAX_SCALE:g}: expected "
                "0 < MIN_SCALE <= MAX_SCALE, such as 0.1 and 2"
            )
    if fixed.ENABLED:
        found += _side_problems("INPUT.FIXED_CROP.SIZE", fixed.SIZE)
        if lsj.ENABLED:
            found.append(
                "INPUT.FIXED_CROP.ENABLED and INPUT.LSJ.ENABLED are both true, but LSJ already "
                "crops to a fixed size: set one of them to false"
            )
    if crop.ENABLED:
        found += _crop_problems(crop)
    found += _mask_problems(cfg) + _color_problems(cfg.INPUT.COLOR)
    return found + _deep_problems(cfg.INPUT.DEEP)


def _mask_problems(cfg: CfgNode) -> list[str]:
    share, boxinst = cfg.INPUT.MASKS.SHARE, cfg.MODEL.BOXINST
    if not 0 <= share <= 1:
        return [f"INPUT.MASKS.SHARE = {share:g}: expected 0 (none) to 1 (all), such as 0.2"]
    if share < 1 and not (boxinst.ENABLED and boxinst.USE_MASKS):
        return [
            f"INPUT.MASKS.SHARE = {share:g} (dataset.masks.share) hides masks, but this recipe "
            "needs them: set MODEL.BOXINST.ENABLED and MODEL.BOXINST.USE_MASKS to true, or the "
            "share to 1"
        ]
    return []


def _deep_problems(deep: CfgNode) -> list[str]:
    found = []
    for key in map(str.upper, KINDS):
        limits = deep[key]
        right = isinstance(limits, (list, tuple)) and all(map(_is_finite, limits))
        if not right or (len(limits) and not (len(limits) == 2 and limits[0] < limits[1])):
            found.append(
                f"INPUT.DEEP.{key} = {limits}: expected [] or the two values that become 0 and "
                "256, the lower first, such as [0, 4096]"
            )
    return found


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _side_problems(key: str, size: object) -> list[str]:
    whole = (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    )
    expected = "expected height and width in pixels, whole numbers above 0, such as [1024, 1024]"
    return [] if whole else [f"{key} = {size}: {expected}"]


def _crop_problems(crop: CfgNode) -> list[str]:
    if crop.TYPE not in _CROPS:
        return [f"INPUT.CROP.TYPE = {crop.TYPE!r}: expected one of {', '.join(_CROPS)}"]
    if crop.TYPE.startswith("absolute"):
        found = _side_problems("INPUT.CROP.SIZE", crop.SIZE)
        if not found and crop.TYPE == "absolute_range" and crop.SIZE[0] > crop.SIZE[1]:
            found = [f"INPUT.CROP.SIZE = {crop.SIZE}: absolute_range expects the smaller first"]
        return found
    if len(crop.SIZE) == 2 and all(map(_is_share, crop.SIZE)):
        return []
    return [
        f"INPUT.CROP.SIZE = {crop.SIZE}: {crop.TYPE} expects fractions of height and width above "
        "0, at most 1, such as [0.9, 0.9]"
    ]


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value <= 1


def _color_problems(color: CfgNode) -> list[str]:
    found = [
        f"INPUT.COLOR.{key} = {color[key]:g}: expected 0 (none) to {limit:g}"
        for key, limit in (
            ("BRIGHTNESS", 1), ("CONTRAST", 1), ("SATURATION", 1), ("LIGHTING", 255),
        )
        if not 0 <= color[key] <= limit
    ]  # fmt: skip
    if not 0 < color.PROBABILITY <= 1:
        found.append(
            f"INPUT.COLOR.PROBABILITY = {color.PROBABILITY:g}: expected above 0, at most 1"
        )
    return found
