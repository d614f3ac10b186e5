"""COCO's run-length masks: runs of zeros and ones in turn, column by column, zeros first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_tools

from condinst.files.names import brief


def run_lengths(counts: str | bytes | list[int]) -> NDArray[np.int64]:
    """The runs of a mask, from COCO's compressed text or plain numbers.

    The text holds 5 bits a character, lowest first, on from ASCII 48, where bit 5 says that more
    follow and the last one's bit 4 is the sign; from the fourth on, a run is stored as the
    difference to the run two before.

    Raises:
        ValueError: the text ends within a number or holds a foreign character, or a number is not
            whole.
    """
    if isinstance(counts, list):
        runs = np.asarray(counts)
        if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
            raise ValueError("its counts are not whole numbers")
        return runs.astype(np.int64)
    text = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not digits.size:
        return digits
    if digits.min() < 0 or digits.max() > 63:
        raise ValueError("its counts hold a character that no run-length text has")
    last = (digits & 32) == 0
    if not last[-1]:
        raise ValueError("its counts end within a number")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    places = np.arange(digits.size) - np.repeat(starts, np.diff(np.append(starts, digits.size)))
    if places.max() > 6:
        raise ValueError("its counts hold a number of more than 35 bits")
    values = np.add.reduceat((digits & 31) << (5 * places), starts)
    negative = (digits[last] & 16) != 0
    values -= negative * (np.int64(1) << (5 * (places[last] + 1)))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def problem(segmentation: dict[str, Any], height: int, width: int) -> str | None:
    """What keeps a run-length mask of an image from being used; None where nothing does.

    Masks with a problem must not reach pycocotools, whose C code trusts them.
    """
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(counts, (str, bytes, list)) or not isinstance(size, (list, tuple)):
        return "its run-length mask lacks size or counts"
    if list(size) != [height, width]:
        found = brief(list(size))
        return f"its run-length mask is of size {found}, its image of {[height, width]}"
    try:
        runs = run_lengths(counts)
    except (ValueError, OverflowError) as error:
        return f"its run-length mask is damaged: {error}"
    if runs.size and runs.min() < 0:
        return "its run-length mask is damaged: it holds a negative run"
    if runs.size and runs.max() > height * width:
        return f"its run-length mask has a run of {runs.max()} of {height * width} pixels"
    if runs.sum() != height * width:
        return f"its run-length mask covers {runs.sum()} of {height * width} pixels"
    return None if runs[1::2].sum() else "its mask is empty"


def compress(segmentation: dict[str, Any]) -> bytes:
    """The compressed counts of a mask without a problem."""
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_tools.frPyObjects(segmentation, *segmentation["size"])["counts"]
    return counts.encode() if isinstance(counts, str) else counts
