"""Image files from outside.

Import side effect: Pillow's warning about many pixels is off, since they are counted here.
"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from condinst.errors import UserError
from condinst.files import names, pixels
from condinst.files.bounds import PIXELS

# Formats of still images. Others that Pillow knows run programs (EPS) or are containers.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")

_LARGE = 25_000_000  # pixels; larger images are read one at a time, even with many threads
_one_by_one = threading.RLock()

warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextmanager
def opened(source: Path | IO[bytes], place: str = "") -> Iterator[Image.Image]:
    """Open an image file: its header is read and its pixels are counted, not yet decoded.

    Whatever a damaged file makes Pillow raise within the block becomes a UserError, so keep only
    code in it that reads the image.

    Args:
        source: the file.
        place: for messages; defaults to the path.

    Raises:
        UserError: it is missing, not an image, damaged, or has too many pixels.
    """
    place = place or str(source)
    if isinstance(source, Path) and (reason := names.problem(str(source))) is not None:
        raise UserError(f"{place!r} {reason}, so it cannot be a file name")
    Image.MAX_IMAGE_PIXELS = PIXELS.value
    try:
        image = Image.open(source, formats=FORMATS)
    except FileNotFoundError as error:
        raise UserError(f"{place} is missing") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = int(re.findall(r"\d+", str(error))[0])
        PIXELS.require(count, place, f"has {count:,} pixels")
        raise
    except Exception as error:
        raise UserError(_undecodable(place, error)) from error
    with image:
        count = image.width * image.height
        if not count:
            raise UserError(
                f"{place} is not an image: it has {image.width} x {image.height} pixels"
            )
        weight = _weight(image)
        size = f"has {image.width:,} x {image.height:,} = {count:,} pixels"
        more = f", each of which takes {weight} times the memory to decode" if weight > 1 else ""
        PIXELS.require(weight * count, place, size + more)
        with _one_by_one if weight * count > _LARGE else nullcontext():
            try:
                yield image
            except UserError:
                raise
            except Exception as error:
                raise UserError(_undecodable(place, error)) from error


def _weight(image: Image.Image) -> int:
    """Memory per pixel while an image is decoded, in units of 7 bytes."""
    if image.format == "JPEG2000":
        return 3  # OpenJPEG keeps each number in 32 bits
    deep = pixels.kind(image) is not None and not image.mode.startswith("I;16")
    whole = image.format == "WEBP" or image.info.get("progressive")  # kept beside Pillow's own
    return 2 if deep or whole else 1


def _undecodable(place: str, error: Exception) -> str:
    """Why Pillow gave up, in a sentence."""
    if isinstance(error, UnidentifiedImageError):
        return f"{place} does not decode: it is not an image in a known format"
    known = isinstance(error, OSError | SyntaxError | ValueError) and str(error)
    if isinstance(error, struct.error) or not known:
        return f"{place} does not decode: the file is damaged"
    return f"{place} does not decode: {error}"
