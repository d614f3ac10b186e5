"""Reading image files in the frame that their annotations were drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from condinst.errors import UserError
from condinst.files import images as image_files
from condinst.files import pixels


def read_oriented(
    path: str,
    size: tuple[int, int] | None = None,
    image_format: str = "BGR",
    ranges: pixels.Ranges | None = None,
) -> NDArray[np.uint8]:
    """Decode an image, rotated by its EXIF orientation.

    An image whose annotations were drawn on the unrotated pixels (the stated size fits only those)
    is not rotated.

    Args:
        path: the file.
        size: (height, width) that the annotations state; None: any.
        image_format: BGR or RGB.
        ranges: how values of more than 8 bits are scaled; None: by the image's own range.

    Returns:
        (h, w, 3).

    Raises:
        UserError: the file is missing, does not decode, or has another size.
    """
    with image_files.opened(Path(path)) as image:
        found = pixels.as_seen(image, ranges, size)
    height, width = found.shape[:2]
    if size is not None and (height, width) != size:
        raise UserError(
            f"{path} is {width} x {height}, its annotations say {size[1]} x {size[0]}; correct "
            "width and height, or the file"
        )
    assert image_format in ("BGR", "RGB"), image_format
    return found if image_format == "RGB" else found[..., ::-1]
