"""Checks of datasets that come as plain lists, which `prepare` has not checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode

from condinst.data.masks import MaskUse
from condinst.errors import UserError

Record = dict[str, Any]


def check_listed(records: Sequence[Record], cfg: CfgNode) -> None:
    """Refuse data from which a recipe cannot learn masks.

    Args:
        records: detectron2's dataset dicts.
        cfg: its ``DATASETS.TRAIN`` is named in messages.

    Raises:
        UserError: masks are learned from boxes, and one is outside its image; or masks are needed,
            and no object has one.
    """
    if not cfg.MODEL.MASK_ON:
        return
    if cfg.MODEL.BOXINST.ENABLED:
        _check_boxes(records, cfg)
    use = MaskUse.from_config(cfg)
    if use.read and (use.share < 1 or not use.boxes_too):
        _check_masks(records, use, cfg)


def _objects(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    for record in records:
        for entry in record.get("annotations", ()):
            if not entry.get("iscrowd", 0):
                yield record, entry


def _check_boxes(records: Sequence[Record], cfg: CfgNode) -> None:
    found = [(record, entry) for record, entry in _objects(records) if not _touches(record, entry)]
    if not found:
        return
    record, entry = found[0]
    bbox = [round(float(x), 1) for x in entry["bbox"]]
    raise UserError(
        f"DATASETS.TRAIN = {tuple(cfg.DATASETS.TRAIN)}: {len(found):,} objects, such as one of "
        f"{record['file_name']} with bbox {bbox}, lie outside their image (that one is "
        f"{record['width']} x {record['height']}), so no mask can be learned from their boxes. "
        "Fix or remove them, or let `python cli.py prepare` do it: set the data in params.yaml "
        "and prepare.policy to repair (docs/bad-input.md)"
    )


def _touches(record: Record, entry: Record) -> bool:
    x0, y0, x1, y1 = BoxMode.convert(list(entry["bbox"]), entry["bbox_mode"], BoxMode.XYXY_ABS)
    # An empty box at the border is accepted: COCO has some, and the mapper leaves them out.
    inside = x0 < record["width"] and y0 < record["height"] and x1 >= 0 and y1 >= 0
    return bool(inside and np.isfinite((x0, y0, x1, y1)).all())


def _check_masks(records: Sequence[Record], use: MaskUse, cfg: CfgNode) -> None:
    count = 0
    for _, entry in _objects(records):
        if entry.get("segmentation"):
            return
        count += 1
    if not count:
        return
    said = (
        f"none of the {count:,} objects of DATASETS.TRAIN = {tuple(cfg.DATASETS.TRAIN)} has a mask"
    )
    if use.share < 1:
        raise UserError(
            f"INPUT.MASKS.SHARE = {use.share:g}: {said}, so there is nothing to hide; set it to 1"
        )
    raise UserError(
        f"{said}, which this recipe needs; learn from boxes with MODEL.BOXINST.ENABLED True, or "
        "train only boxes with MODEL.MASK_ON False"
    )
