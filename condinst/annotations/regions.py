"""Objects of val that are left out stay as regions to ignore, so that finding them is no mistake.

Such a region is a crowd region to all evaluators: what is found there counts neither as right nor
as wrong.
"""

from __future__ import annotations

from typing import Any

from pycocotools import mask as mask_tools

from condinst.annotations import boxes, rle
from condinst.annotations.faults import Ledger
from condinst.annotations.ids import canonical
from condinst.annotations.mending import Mender

Entry = dict[str, Any]

_SAID = "; where it is, nothing is counted"


class IgnoredRegions:
    """See :class:`condinst.annotations.mending.Regions`.

    Attributes:
        count: how many were made.
    """

    def __init__(self) -> None:
        self.count = 0

    def of(self, given: Any, mender: Mender) -> Entry | None:
        """The region of a mask that `repair` would have kept, or else of the box."""
        known = [
            mender.numbers[what].get(canonical(given.get(f"{what}_id")))
            for what in ("image", "category")
            if isinstance(given, dict)
        ]
        image = mender.images.get(known[0]) if known and known[0] is not None else None
        if image is None or known[1] is None:
            return None
        plain = {key: value for key, value in given.items() if key != "unread"}
        mask = self._mask({**plain, "id": 1, "iscrowd": 0}, mender)
        height, width = image["height"], image["width"]
        mask = _of_box(given.get("bbox"), height, width) if mask is None else mask
        if mask is None:
            return None
        if isinstance(mask, list):
            mask = mask_tools.merge(mask_tools.frPyObjects(mask, height, width))
        coded = {"size": [height, width], "counts": rle.compress(mask)}
        area = float(mask_tools.area(coded))
        if not area:
            return None
        self.count += 1
        last = mender.ledger.faults[-1]
        mender.ledger.faults[-1] = last._replace(reason=last.reason + _SAID)
        return {
            "id": None,
            "image_id": image["id"],
            "category_id": known[1],
            "iscrowd": 1,
            "ignore": 1,
            "segmentation": {**coded, "counts": coded["counts"].decode()},
            "bbox": mask_tools.toBbox(coded).tolist(),
            "area": area,
        }

    def _mask(self, given: Entry, mender: Mender) -> Any:
        other = Mender(Ledger("repair"), mender.images, mender.numbers, mender.lost)
        other.verdict = mender.verdict
        found = other.mend(given, "", twice=False)
        return None if found is None else found.get("segmentation") or None


def _of_box(box: Any, height: int, width: int) -> list[list[float]] | None:
    """The outline of a box inside its picture."""
    if not boxes.is_box(box):
        return None
    x0, y0, x1, y1 = boxes.corners(box)
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    return [[x0, y0, x1, y0, x1, y1, x0, y1]] if x1 > x0 and y1 > y0 else None
