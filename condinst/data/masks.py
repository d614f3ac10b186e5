"""Which masks of the data a training sees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode

_SCALE = float(1 << 64)


@dataclass(frozen=True)
class MaskUse:
    """What the mapper does with masks.

    Attributes:
        read: provide ``gt_masks``.
        boxes_too: objects without a mask are included as well, and ``gt_has_mask`` says which
            have one; otherwise they are left out where masks are read.
        share: of the masks to show, 0 to 1; the other objects count as having none.
        seed: chooses them; with the same seed a larger share contains a smaller one.
    """

    read: bool = True
    boxes_too: bool = False
    share: float = 1.0
    seed: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MaskUse:
        """Read MODEL.MASK_ON, MODEL.BOXINST and INPUT.MASKS; a plain detectron2 config will do."""
        boxinst, masks = cfg.MODEL.get("BOXINST"), cfg.INPUT.get("MASKS")
        share, seed = (masks.SHARE, masks.SEED) if masks is not None else (1.0, 0)
        from_boxes = boxinst is not None and boxinst.ENABLED
        either = bool(from_boxes and boxinst.USE_MASKS)
        return cls(cfg.MODEL.MASK_ON and (either or not from_boxes), either, share, seed)

    def shown(self, annotation: dict[str, Any], place: str = "") -> bool:
        """Whether an object has a mask that is not hidden.

        Args:
            annotation: with ``segmentation``, if it has a mask.
            place: used in place of a missing ``id``.
        """
        if not annotation.get("segmentation"):
            return False
        if self.share >= 1:
            return True
        text = f"{self.seed}:{annotation.get('id', place)}".encode()
        drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
        return drawn / _SCALE < self.share
