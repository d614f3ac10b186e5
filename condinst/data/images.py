"""Reading image files in the frame that their annotations were drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from numpy.typing import NDArray
from PIL import Image

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
        image_format: detectron2's, BGR or RGB.
        ranges: how values of more than 8 bits are scaled; None: by the image's own range.

    Returns:
        (h, w, 3).

    Raises:
        UserError: the file is missing, does not decode, or has another size.
    """
    with image_files.opened(Path(path)) as image:
        chosen, stored = pixels.as_seen(image, ranges)
        if size is not None and _size(chosen) != size and _size(stored) == size:
            chosen = stored
        if size is not None and _size(chosen) != size:
            raise UserError(
                f"{path} is {chosen.width} x {chosen.height}, its annotations say "
                f"{size[1]} x {size[0]}; correct width and height, or the file"
            )
        return convert_PIL_to_numpy(chosen, image_format)


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width
