"""Reading picture files in the frame that their annotations were drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps

from condinst.errors import UserError
from condinst.files import images as image_files


def read_oriented(
    path: str, size: tuple[int, int] | None = None, image_format: str = "BGR"
) -> NDArray[np.uint8]:
    """Decode a picture, turned as its EXIF orientation says.

    A picture whose annotations were drawn without turning (the stated size fits only then) stays
    unturned.

    Args:
        path: the file.
        size: (height, width) that the annotations state; None: whatever it is.
        image_format: of detectron2, BGR or RGB.

    Returns:
        (h, w, 3).

    Raises:
        UserError: the file is missing, does not decode, or is of another size.
    """
    with image_files.opened(Path(path)) as image:
        turned = ImageOps.exif_transpose(image)
        chosen = turned
        if size is not None and _size(turned) != size and _size(image) == size:
            chosen = image
        if size is not None and _size(chosen) != size:
            raise UserError(
                f"{path} is {chosen.width} x {chosen.height}, its annotations say "
                f"{size[1]} x {size[0]}; correct width and height, or the file"
            )
        return convert_PIL_to_numpy(_eight_bits(chosen), image_format)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow would cut 16-bit grey values off at 255; here the upper 8 bits are kept."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    return image


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width
