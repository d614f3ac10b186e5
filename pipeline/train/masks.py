"""Whether the data has the masks that a recipe learns from."""

from __future__ import annotations

from detectron2.config import CfgNode

from condinst.data.index import open_index
from condinst.errors import UserError
from pipeline.recipe import PreparedData


def check_masks(cfg: CfgNode, data: PreparedData) -> list[str]:
    """Notes about objects with only a box, if there are any.

    Args:
        cfg: of the training.
        data: prepared, with images to train on.

    Raises:
        UserError: no object has a mask, and the recipe needs some.
    """
    boxinst = cfg.MODEL.BOXINST
    if not cfg.MODEL.MASK_ON or (boxinst.ENABLED and not boxinst.USE_MASKS):
        return []
    index = open_index(data.root / "train")
    masked = index.masked[index.numbers[:, 2] == 0]
    if len(masked) and not masked.any() and cfg.INPUT.MASKS.SHARE < 1:
        raise UserError(
            f"dataset.masks.share = {cfg.INPUT.MASKS.SHARE:g}: none of the {len(masked):,} objects "
            f"in {data.root / 'train'} has a mask, so there is nothing to hide; set dataset.masks "
            "to null"
        )
    if len(masked) and not masked.any() and not boxinst.ENABLED:
        raise UserError(
            f"none of the {len(masked):,} objects in {data.root / 'train'} has a mask, which "
            "model.config needs; learn from boxes with a recipe in configs/BoxInst or model."
            "overrides {MODEL.BOXINST.ENABLED: true}, or train only boxes with {MODEL.MASK_ON: "
            "false}"
        )
    if boxinst.ENABLED or masked.all():
        return []
    return [
        f"{int((~masked).sum()):,} of {len(masked):,} objects have only a box and are left out of "
        "training; model.overrides {MODEL.BOXINST.ENABLED: true, MODEL.BOXINST.USE_MASKS: true} "
        "learns from them too"
    ]
