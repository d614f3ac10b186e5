"""What MODEL.BOXINST must not hold; found before anything is built or read."""

from __future__ import annotations

import math

from detectron2.config import CfgNode


def box_problems(cfg: CfgNode) -> list[str]:
    """What is wrong with the keys of a recipe that learns masks from boxes, one line each."""
    node = cfg.MODEL.BOXINST
    if not node.ENABLED:
        return []
    found = [*_pairwise_problems(cfg), *_stride_problems(cfg)]
    if node.BOTTOM_PIXELS_REMOVED < 0:
        found.append(
            f"MODEL.BOXINST.BOTTOM_PIXELS_REMOVED = {node.BOTTOM_PIXELS_REMOVED}: expected 0 or "
            "more rows of the original image, such as 10"
        )
    if not node.USE_MASKS:
        return found
    return found + [
        f"MODEL.BOXINST.{key} = {node[key]:g}: expected 0 or more, such as 1.0"
        for key in ("MASK_WEIGHT", "BOX_WEIGHT")
        if not 0 <= node[key] < math.inf
    ]


def _pairwise_problems(cfg: CfgNode) -> list[str]:
    node = cfg.MODEL.BOXINST.PAIRWISE
    if not node.ENABLED:
        return []
    checks = (
        ("SIZE", node.SIZE % 2 == 1 and node.SIZE > 1, "odd, 3 or more, such as 3"),
        ("DILATION", node.DILATION > 0, "1 or more, such as 2"),
        (
            "WARMUP_ITERS",
            node.WARMUP_ITERS >= 0,
            "0 (none) or more steps, such as 10000; PAIRWISE.ENABLED False leaves the loss out",
        ),
        ("COLOR_THRESH", 0 <= node.COLOR_THRESH <= 1, "0 to 1, such as 0.3"),
    )
    found = [
        f"MODEL.BOXINST.PAIRWISE.{key} = {node[key]}: expected {expected}"
        for key, fits, expected in checks
        if not fits
    ]
    if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
        found.append(
            f"INPUT.FORMAT = {cfg.INPUT.FORMAT!r}: MODEL.BOXINST compares colours, which it finds "
            "in BGR and RGB images alone; use one of these, or PAIRWISE.ENABLED False"
        )
    return found


def _stride_problems(cfg: CfgNode) -> list[str]:
    """Where the config alone says the stride of the mask features."""
    strides = dict(zip(cfg.MODEL.FCOS.IN_FEATURES, cfg.MODEL.FCOS.FPN_STRIDES, strict=False))
    levels, stride = cfg.MODEL.CONDINST.MASK_BRANCH.IN_FEATURES, cfg.MODEL.CONDINST.MASK_OUT_STRIDE
    whole = strides.get(levels[0]) if levels else None
    if whole is None or (stride >= 1 and whole % stride == 0):
        return []
    return [
        f"MODEL.CONDINST.MASK_OUT_STRIDE = {stride}: use a divisor of the mask features' stride "
        f"{whole}, such as 4"
    ]
