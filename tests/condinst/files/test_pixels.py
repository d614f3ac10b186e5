"""Images of any depth and orientation, and files whose tags are damaged."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.data.images import read_oriented
from condinst.errors import UserError
from condinst.files import pixels

# As the module has it outside of tests.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

# What a file of 2 x 3 pixels shows.
SHOWN = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
STORED = {
    1: SHOWN,
    2: SHOWN[:, ::-1],
    3: SHOWN[::-1, ::-1],
    4: SHOWN[::-1],
    5: SHOWN.T,
    6: np.rot90(SHOWN),
    7: SHOWN[::-1, ::-1].T,
    8: np.rot90(SHOWN, -1),
}


def entry(tag: int, kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")


def exif(*entries: bytes, order: str = "<") -> bytes:
    head = b"Exif\0\0" + (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def saved(path: Path, stored: Any, **options: Any) -> str:
    Image.fromarray(np.ascontiguousarray(stored)).save(path, **options)
    return str(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_by_the_orientation(tmp_path: Path, suffix: str, turn: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = turn
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", STORED[turn], exif=tags, **options)
    with Image.open(path) as image:
        assert pixels.seen_size(image) == (3, 2)
    with Image.open(path) as image:
        sizes, _, _ = pixels.measured(image)
    assert sizes[0] == (3, 2)
    assert set(sizes) == {(3, 2), STORED[turn].shape[::-1]}
    assert (read_oriented(path)[..., 0] == SHOWN).all()
    stored = STORED[turn].shape
    if stored != (2, 3):  # drawn on what is stored
        assert (read_oriented(path, stored)[..., 0] == STORED[turn]).all()


DAMAGED = {
    "text": exif(entry(0x0112, 2, 2, b"6\0")),
    "0": exif(entry(0x0112, 3, 1, struct.pack("<H", 0))),
    "9": exif(entry(0x0112, 3, 1, struct.pack("<H", 9))),
    "fraction": exif(entry(0x0112, 11, 1, struct.pack("<f", 6))),
    "none": exif(entry(0x0110, 2, 2, b"x\0")),
    "beyond the end": exif(entry(0x0112, 5, 1, struct.pack("<I", 60000))),
    "no EXIF": b"Exif\0\0junk",
    "cut off": exif(entry(0x0112, 3, 1, struct.pack("<H", 6)))[:18],
}
GOOD = {
    "big-endian": exif(entry(0x0112, 3, 1, struct.pack(">H", 6), ">"), order=">"),
    "two numbers": exif(entry(0x0112, 3, 2, struct.pack("<HH", 6, 6))),
    "long": exif(entry(0x0112, 4, 1, struct.pack("<I", 6))),
    "beside a broken resolution": exif(
        entry(0x0112, 3, 1, struct.pack("<H", 6)),
        entry(0x011A, 2, 4, b"abc\0"),
        entry(0x011B, 5, 1, struct.pack("<I", 60000)),
    ),
}


def jpeg(path: Path, data: bytes) -> str:
    Image.new("L", (3, 2)).save(path, exif=data)
    return str(path)


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_orientation_turns_nothing(tmp_path: Path, data: bytes) -> None:
    path = jpeg(tmp_path / "a.jpg", data)
    assert read_oriented(path).shape == (2, 3, 3)
    with Image.open(path) as image:
        assert pixels.measured(image)[0] == ((3, 2),)


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD.keys())
def test_other_tags_do_not_matter(tmp_path: Path, data: bytes) -> None:
    path = jpeg(tmp_path / "a.jpg", data)
    assert read_oriented(path).shape == (3, 2, 3)
    assert read_oriented(path, (2, 3)).shape == (2, 3, 3)


DEEP = [
    # kind, values, 0 to 256 of the rule, what becomes of them
    (np.float32, [0, 0.25, 1], "tif", (0, 1), [0, 64, 255]),
    (np.float32, [0, 1000, 65535], "tif", (0, 65536), [0, 3, 255]),
    (np.float32, [-1, 0, 1], "tif", (-1, 1), [0, 128, 255]),
    (np.float32, [0, np.nan, 0.5], "tif", (0, 0.5), [0, 0, 255]),
    (np.uint16, [0, 16, 4095], "png", (0, 4096), [0, 1, 255]),
    (np.uint16, [0, 16, 4095], "tif", (0, 4096), [0, 1, 255]),
    (np.uint16, [0, 256, 65535], "png", (0, 65536), [0, 1, 255]),
    (np.int32, [0, 70_000, 100_000], "tif", (0, 131_072), [0, 136, 195]),
    (np.int32, [-1000, 0, 3000], "tif", (-1000, 3000), [0, 64, 255]),
]


@pytest.mark.parametrize(("dtype", "given", "suffix", "limits", "expected"), DEEP)
def test_deep_values_are_scaled_from_their_range(
    tmp_path: Path, dtype: Any, given: list[float], suffix: str, limits: Any, expected: list[int]
) -> None:
    path = saved(tmp_path / f"a.{suffix}", np.array([given], dtype))
    with Image.open(path) as image:
        _, kind, found = pixels.measured(image)
    assert kind is not None
    assert found is not None
    np.testing.assert_array_equal(found, [np.nan_to_num(np.array(given, dtype))])
    whole = dtype is not np.float32
    assert pixels.span(found.min(), found.max(), whole=whole) == limits
    assert read_oriented(path)[0, :, 0].tolist() == expected
    doubled = [limits[0], limits[0] + 2 * (limits[1] - limits[0])]
    half = read_oriented(path, ranges={kind: doubled})[0, :, 0]
    assert half.tolist() == pytest.approx([value / 2 for value in expected], abs=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colours_keep_their_lower_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    import cv2

    rgb = np.zeros((4, 5, channels), np.uint16)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 4095, 2048, 16
    path = tmp_path / f"a.{suffix}"
    stored = rgb[..., [2, 1, 0, 3][:channels]]
    cv2.imwrite(str(path), np.ascontiguousarray(stored))
    assert read_oriented(str(path), image_format="RGB")[0, 0].tolist() == [255, 128, 1]
    limits = {"int16": [0, 65536]}
    assert read_oriented(str(path), None, "RGB", limits)[0, 0].tolist() == [15, 8, 0]


def tiff(path: Path, values: Any, order: str) -> str:
    """A file of one row of whole numbers without a sign."""
    bits = 8 * values.itemsize
    tags = [(256, 4, values.size), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, 1),
            (273, 4, 8 + 2 + 12 * 10 + 4), (277, 3, 1), (278, 4, 1), (279, 4, values.nbytes),
            (339, 3, 1)]  # fmt: skip
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(tags))
    rows = [
        entry(tag, kind, 1, struct.pack(order + ("H" if kind == 3 else "I"), value), order)
        for tag, kind, value in tags
    ]
    path.write_bytes(head + b"".join(rows) + bytes(4) + values.tobytes())
    return str(path)


def test_unsigned_and_big_endian(tmp_path: Path) -> None:
    large = tiff(tmp_path / "a.tif", np.array([0, 1 << 31, (1 << 32) - 1], "<u4"), "<")
    assert read_oriented(large)[0, :, 0].tolist() == [0, 128, 255]
    big_endian = tiff(tmp_path / "b.tif", np.array([0, 2048, 4095], ">u2"), ">")
    assert read_oriented(big_endian)[0, :, 0].tolist() == [0, 128, 255]


def test_a_deep_image_is_turned_too(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    for suffix in ("png", "tif"):
        path = saved(tmp_path / f"a.{suffix}", STORED[6].astype(np.uint16) * 16, exif=tags)
        limits = {"int16": [0, 4096]}
        assert (read_oriented(path, (2, 3), ranges=limits)[..., 0] == SHOWN).all()


def test_a_constant_image_is_no_fault(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", np.zeros((2, 3), np.float32))
    assert (read_oriented(path) == 0).all()


def test_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(UserError, match=r"a\.tif does not decode"):
        read_oriented(str(path))
