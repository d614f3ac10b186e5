"""INPUT: ways to augment training images beside detectron2's, all off by default."""

from __future__ import annotations

import math

from detectron2.config import CfgNode

_CROPS = ("relative", "relative_range", "absolute", "absolute_range")


def add_input_config(cfg: CfgNode) -> None:
    """Add the keys, in place."""
    cfg.INPUT.CROP.CROP_INSTANCE = True  # AdelaiDet's; False: the region grows until it cuts none

    # Large-scale jitter, instead of MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: the image is made to fit
    # into SIZE times a factor at random, then cut or padded to SIZE.
    cfg.INPUT.LSJ = lsj = CfgNode()
    lsj.ENABLED = False
    lsj.MIN_SCALE = 0.1
    lsj.MAX_SCALE = 2.0
    lsj.SIZE = [1024, 1024]  # height, width

    # A region of a size in pixels, cut out after resizing; INPUT.CROP cuts before it.
    cfg.INPUT.FIXED_CROP = crop = CfgNode()
    crop.ENABLED = False
    crop.SIZE = [512, 512]  # height, width
    crop.PAD = False  # smaller images are padded to SIZE; False: they stay smaller
    crop.AROUND_OBJECT = False  # the region holds the centre of an object chosen at random

    # Each factor is drawn from 1 - value to 1 + value; 0: none.
    cfg.INPUT.COLOR = color = CfgNode()
    color.BRIGHTNESS = 0.0
    color.CONTRAST = 0.0
    color.SATURATION = 0.0
    color.LIGHTING = 0.0  # standard deviation of AlexNet's shift along ImageNet's colours
    color.PROBABILITY = 1.0  # that an image is changed, for each of the four


def input_section(cfg: CfgNode, name: str) -> CfgNode:
    """``INPUT.<name>``, with our defaults where a plain config of detectron2 has no such key."""
    if name not in cfg.INPUT:
        defaults = CfgNode({"INPUT": {"CROP": {}}})
        add_input_config(defaults)
        return defaults.INPUT[name]
    return cfg.INPUT[name]


def input_problems(cfg: CfgNode) -> list[str]:
    """What is wrong with the augmentations that are asked for, one line each."""
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
                "INPUT.FIXED_CROP.ENABLED and INPUT.LSJ.ENABLED are both true, but LSJ cuts to a "
                "fixed size itself: set one of them to false"
            )
    if crop.ENABLED:
        found += _crop_problems(crop)
    return found + _color_problems(cfg.INPUT.COLOR)


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
    if len(crop.SIZE) == 2 and all(0 < share <= 1 for share in crop.SIZE):
        return []
    return [
        f"INPUT.CROP.SIZE = {crop.SIZE}: {crop.TYPE} expects shares of height and width above 0, "
        "at most 1, such as [0.9, 0.9]"
    ]


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
