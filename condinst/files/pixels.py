"""Pixels of any depth as 8 bits, and images rotated the way they should be seen.

Depth: values of one kind (16-bit, 32-bit, float) are scaled alike in the whole dataset, from the
range that they really use there, :func:`span`. 8-bit images stay as they are.

Import side effect: Pillow's warnings about damaged tags are off; they name no file, and tags other
than the orientation do not matter.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff)?Image.*")

KINDS = {"int16": "16-bit", "int32": "32-bit", "float": "floating-point"}

Ranges = Mapping[str, Sequence[float]]
"""For each of ``KINDS`` the values that become 0 and 256, which is clipped to 255."""

_ORIENTATION = 0x0112  # EXIF
_SAMPLE_FORMAT = 339  # TIFF
# Of an array (h, w, ...) as it is seen: a view of it as it is stored.
_AS_STORED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}
_BAND = 1 << 22  # pixels that are converted together


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 to 8; 1 if it is missing, damaged or anything else.

    Args:
        image: opened, its pixels not yet read.
    """
    try:
        tiff: Any = getattr(image, "tag_v2", None)
        value = image.getexif().get(_ORIENTATION) if tiff is None else tiff.get(_ORIENTATION)
    except Exception:  # other tags, which do not matter here, may be damaged
        return 1
    return value if type(value) is int and value in _AS_STORED else 1


def seen_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as it is seen, if possible without reading pixels.

    Args:
        image: opened, its pixels not yet read.
    """
    size, turn = image.size, orientation(image)
    # Pillow already gives it for TIFFs
    return size[::-1] if turn >= 5 and image.format != "TIFF" else size


def kind(image: Image.Image) -> str | None:
    """Which of ``KINDS`` an image's values are; None: of 8 bits or fewer.

    Args:
        image: opened, its pixels not yet read.
    """
    if image.mode == "F":
        return "float"
    if image.mode.startswith("I;16") or ";16" in _raw_mode(image):
        return "int16"
    return "int32" if image.mode == "I" else None


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for how the file stores a pixel."""
    tiles = getattr(image, "tile", ())
    given = tiles[0][3] if tiles else ""
    given = given[0] if isinstance(given, tuple) and given else given
    return given if isinstance(given, str) else ""


def measured(
    image: Image.Image,
) -> tuple[tuple[tuple[int, int], ...], str | None, NDArray[Any] | None]:
    """Size and values of an image before conversion to 8 bits.

    Args:
        image: opened, its pixels not yet read.

    Returns:
        (width, height) as it is seen, and as it is stored if that differs; which of ``KINDS`` its
        values are; the values (h, w) or RGB (h, w, 3) as stored, with 0 for non-finite ones. None
        and None: they have 8 bits or fewer.

    Raises:
        OSError: it does not decode, or anything else that Pillow raises for a damaged one.
    """
    stored, turn, depth, found = _read(image)
    seen = stored.size[::-1] if turn >= 5 else stored.size
    both = (seen, stored.size) if stored.size != seen else (seen,)
    return both, depth, found


def _read(image: Image.Image) -> tuple[Image.Image, int, str | None, NDArray[Any] | None]:
    """The image as stored, its orientation, which of ``KINDS`` it is, and then its values."""
    depth = kind(image)  # first, since reading tags may also read pixels
    turn = orientation(image) if image.format == "TIFF" else None
    if turn is not None and turn > 1:
        image = _as_stored(image)
    found = None if depth is None else _values(image)
    image.load()
    return image, orientation(image) if turn is None else turn, depth, found


def _as_stored(image: Image.Image) -> Image.Image:
    """A TIFF without its orientation.

    Pillow rotates TIFFs when it reads them, some of them wrongly.
    """
    file: Any = getattr(image, "fp", None)
    file.seek(0)
    data = bytearray(file.read())
    order = "<" if data[:2] == b"II" else ">"
    version, start = struct.unpack_from(f"{order}HI", data, 2)
    if version == 42:  # otherwise with 64-bit addresses
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", data, place)[0] == _ORIENTATION:
                struct.pack_into(f"{order}HIHH", data, place + 2, 3, 1, 1, 0)
    return Image.open(io.BytesIO(data), formats=("TIFF",))


def _values(image: Image.Image) -> NDArray[Any]:
    """The values that :func:`measured` returns."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        unsigned = image.mode == "I" and _unsigned(image)
        found = np.asarray(image)
        found = found.view(np.uint32) if unsigned else found
    else:
        found = _colours(image)
    if found.dtype.kind == "f":
        found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    return found


def _unsigned(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None or ";32" not in _raw_mode(image):
        return False
    return tags.get(_SAMPLE_FORMAT, (1,))[0] == 1


def _colours(image: Image.Image) -> NDArray[Any]:
    """RGB or grey of more than 8 bits, of which Pillow would only keep the upper 8."""
    import cv2

    file: Any = getattr(image, "fp", None)
    assert file is not None, image
    file.seek(0)
    data = np.frombuffer(file.read(), np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if found is None:
        raise OSError("its colours of more than 8 bits cannot be read")
    if found.ndim == 2:
        return found
    return found[..., 0] if found.shape[2] < 3 else found[..., 2::-1]


def span(low: float, high: float, *, whole: bool) -> tuple[float, float]:
    """The values that become 0 and 256.

    From 0 to the smallest power of two that no value exceeds: 4096 for 12 bits in 16, 1 for
    fractions; if some are below 0, from the smallest value to the largest.

    Args:
        low: the smallest value.
        high: the largest.
        whole: they are integers, whose largest is one less than the power.
    """
    if low < 0:
        return low, high if high > low else low + 1
    if whole:
        return 0.0, float(2 ** int(high).bit_length())
    return 0.0, 2.0 ** math.ceil(math.log2(high)) if high > 0 else 1.0


def eight_bits(found: NDArray[Any], limits: Sequence[float] | None) -> NDArray[np.uint8]:
    """Values scaled to 0 to 255.

    Args:
        found: of any shape.
        limits: the values that become 0 and 256; None: by the image's own range.
    """
    if limits is None or len(limits) != 2:
        whole = found.dtype.kind != "f"
        limits = span(float(found.min(initial=0)), float(found.max(initial=0)), whole=whole)
    low, high = limits
    if found.dtype == np.uint16:
        return _scaled(np.arange(1 << 16), low, high)[found]
    made = np.empty(found.shape, np.uint8)
    for part in _bands(*found.shape[:2]):
        made[part] = _scaled(found[part], low, high)
    return made


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values.astype(np.float64) - low) * (256 / (high - low))
    return np.clip(np.floor(scaled), 0, 255).astype(np.uint8)


def _bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows, small enough to be copied freely."""
    step = max(_BAND // max(width, 1), 1)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """RGB (h, w, 3) of an image as stored, using little more memory than that."""
    made = np.empty((image.height, image.width, 3), np.uint8)
    _fill(made, image)
    return made


def _fill(made: NDArray[np.uint8], image: Image.Image) -> None:
    for part in _bands(image.height, image.width):
        whole = part == slice(0, image.height)
        band = image if whole else image.crop((0, part.start, image.width, part.stop))
        made[part] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def as_seen(
    image: Image.Image, ranges: Ranges | None = None, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """8-bit RGB (h, w, 3), rotated by the EXIF orientation.

    Args:
        image: opened, its pixels not yet read.
        ranges: of values of more than 8 bits; a kind without one is scaled by the image's own.
        size: (h, w); an image that has it only as stored is not rotated.

    Raises:
        OSError: it does not decode, or anything else that Pillow raises for a damaged one.
    """
    stored, turn, depth, found = _read(image)
    height, width = stored.height, stored.width
    seen = (width, height) if turn >= 5 else (height, width)
    if size is not None and seen != size and (height, width) == size:
        turn, seen = 1, size
    made = np.empty((*seen, 3), np.uint8)
    target = _AS_STORED[turn](made) if turn > 1 else made
    if depth is None or found is None:
        _fill(target, stored)
    else:
        values = eight_bits(found, (ranges or {}).get(depth))
        target[:] = values if values.ndim == 3 else values[..., None]
    return made
