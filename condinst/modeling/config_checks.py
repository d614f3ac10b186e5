"""Config values that CondInst cannot work with, and those that it ignores."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode

from condinst.errors import UserError

CENTERS = ("mass", "box")
_LOGGER = logging.getLogger(__name__)


def check_config(cfg: CfgNode, shapes: dict[str, Any]) -> None:
    """Refuse contradictory values; warn about keys that have no effect.

    Args:
        cfg: the whole config.
        shapes: the backbone's output shape.

    Raises:
        UserError: the config contradicts itself or refers to something that does not exist.
    """
    _check_levels(cfg, shapes, list(cfg.MODEL.FCOS.IN_FEATURES))
    if cfg.MODEL.CONDINST.CENTER not in CENTERS:
        raise UserError(f"MODEL.CONDINST.CENTER = {cfg.MODEL.CONDINST.CENTER!r}: use mass or box")
    if cfg.MODEL.BOXINST.ENABLED and not cfg.MODEL.MASK_ON:
        raise UserError(
            "MODEL.BOXINST.ENABLED = True, MODEL.MASK_ON = False: masks are learned from boxes, "
            "but none are predicted; set MODEL.MASK_ON to True"
        )
    _warn_of_unread_keys(cfg)


def _check_levels(cfg: CfgNode, shapes: dict[str, Any], names: list[str]) -> None:
    missing = [name for name in names if name not in shapes]
    if not names or missing:
        raise UserError(f"MODEL.FCOS.IN_FEATURES = {names}: the backbone gives {sorted(shapes)}")
    strides = [shapes[name].stride for name in names]
    if strides != list(cfg.MODEL.FCOS.FPN_STRIDES):
        raise UserError(
            f"MODEL.FCOS.FPN_STRIDES = {list(cfg.MODEL.FCOS.FPN_STRIDES)}: levels {names} have "
            f"strides {strides}"
        )


def _warn_of_unread_keys(cfg: CfgNode) -> None:
    """Warn about keys that have no effect, here or in the public implementations."""
    for section, key, default in (
        ("FCOS", "USE_RELU", True),
        ("FCOS", "YIELD_PROPOSAL", False),
        ("FCOS", "YIELD_BOX_FEATURES", False),
        ("CONDINST", "BOTTOM_PIXELS_REMOVED", -1),
    ):
        if cfg.MODEL[section][key] != default:
            name, value = f"MODEL.{section}.{key}", cfg.MODEL[section][key]
            _LOGGER.warning("%s = %s has no effect: CondInst does not read it", name, value)
    if cfg.MODEL.CONDINST.MASK_HEAD.USE_FP16:
        name = "MODEL.CONDINST.MASK_HEAD.USE_FP16"
        _LOGGER.warning("%s = True has no effect: set SOLVER.AMP.ENABLED", name)
