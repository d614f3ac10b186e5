"""Files that ask for too much, or are none: a sentence with file and place, before any memory."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from condinst.errors import UserError
from condinst.files import bounds, images, jsontext, names, text, yamltext, zips


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "x.json is not JSON: Expecting value: line 1"),
        (b'{"a" 1}', "x.json is not JSON: Expecting ':' delimiter: line 1 column 6"),
        (b'{"a": "b', "x.json is cut off: .* after 8 bytes"),
        (b'{"a": tr', "x.json is cut off: .* after 8 bytes"),
        (b'{"a": "\xff"}', "x.json is not JSON: it is not UTF-8"),
        (b"9" * 5000, "x.json is not JSON: Exceeds the limit .4300 digits."),
        (b"[" * 100_000, "x.json has lists or mappings nested more than 64 deep"),
        (b'["]]]", ' + b"[" * 64 + b"]" * 65, "more than 64 deep"),
        (b'["\\"]]", ' + b"[" * 64 + b"]" * 65, "more than 64 deep"),
    ],
)
def test_json_that_is_none(given: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        jsontext.parse(given, "x.json")


def test_brackets_in_texts_are_no_depth() -> None:
    given = [["[" * 100, '"[{', "\\"], {"]": "}"}]
    assert jsontext.parse(json.dumps(given).encode(), "x.json") == given
    assert jsontext.depth(json.dumps(given).encode()) == 2
    assert jsontext.depth(b"[" * 64 + b"]" * 64) == 64
    assert jsontext.depth(b"[" + b"[]," * 100 + b"0]") == 2
    assert jsontext.depth(b"3") == 0


def test_json_memory_is_bounded_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    given = b"[" + b"[]," * 100 + b"0]"
    # 303 bytes twice, 101 lists of 64 bytes, 100 values more of 32
    assert jsontext.memory(given) == 2 * 303 + 101 * 64 + 100 * 32
    monkeypatch.setenv("CONDINST_MAX_JSON_BYTES", "10269")
    with pytest.raises(
        UserError, match=r"x.json would take about 10,270 bytes of memory; the limit is "
    ):
        jsontext.parse(given, "x.json")
    monkeypatch.setenv("CONDINST_MAX_JSON_BYTES", "10270")
    assert len(jsontext.parse(given, "x.json")) == 101


@pytest.mark.parametrize("value", ["many", "-1", "0", "1e9", "9" * 19])
def test_bounds_that_are_no_numbers(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDINST_MAX_PIXELS", value)
    with pytest.raises(UserError, match=r"CONDINST_MAX_PIXELS is .*, must be a whole number above"):
        _ = bounds.PIXELS.value


def _laughs() -> str:
    """A billion values in ten lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_laughs(), "x.yaml, line 6: more than 200,000 values"),
        ("a: &a [*a]", r"x.yaml, line 1: \*a is used inside its own anchor"),
        ("a:\n  b: " + "[" * 65, "x.yaml, line 2: lists or mappings nested more than 64 deep"),
        ("a: [1, 2", "x.yaml is not valid YAML, line 1, column 9|line 2, column 1"),
        ("a: 2001-99-99", "x.yaml has a value that YAML cannot represent: month must be in"),
        ("a: " + "9" * 5000, "x.yaml has a value that YAML cannot represent: Exceeds the limit"),
        ("? [a]\n: 3", "x.yaml is not valid YAML, line 1, column 3: found unhashable key"),
        ("a: !!python/name:os.system", "could not determine a constructor for the tag"),
        ('a: "\\0"', "x.yaml, line 1: .* has characters that are not text"),
        ('a: "\\ud800"', "x.yaml is not valid YAML, line 1"),
    ],
)
def test_yaml_that_is_none(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        yamltext.load(given, "x.yaml")


def test_yaml_with_aliases_that_are_right() -> None:
    assert yamltext.load("a: &a [1, 2]\nb: *a\nc: {<<: {d: 3}}", "x") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": 3},
    }
    assert yamltext.load("", "x") is None


def _bomb(width: int, height: int) -> bytes:
    """A PNG of zeros, whose rows compress to a thousandth."""
    made = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for code, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 5000)), (b"IEND", b"")):
        made += struct.pack(">I", len(data)) + code + data
        made += struct.pack(">I", zlib.crc32(code + data))
    return made


@pytest.mark.parametrize("side", [10_001, 14_000, 20_000, 60_000])
def test_images_of_too_many_pixels(side: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_bomb(side, side))
    with (
        pytest.raises(UserError, match=r"a\.png has .* pixels; the limit is 100,000,000"),
        images.opened(tmp_path / "a.png"),
    ):
        pass


def test_the_bound_on_pixels_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDINST_MAX_PIXELS", "5999")
    buffer = io.BytesIO()
    Image.new("L", (60, 100)).save(buffer, "PNG")
    with (
        pytest.raises(UserError, match=r"x has .*6,000 pixels; .* CONDINST_MAX_PIXELS=6000"),
        images.opened(buffer, "x"),
    ):
        pass
    monkeypatch.setenv("CONDINST_MAX_PIXELS", "6000")
    with images.opened(buffer, "x") as image:
        assert image.size == (60, 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not decode: it is not an image in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
        (_bomb(0, 5), "does not decode"),
        (_bomb(48, 32)[:-30], "does not decode"),
    ],
)
def test_images_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=message), images.opened(tmp_path / "a.png") as image:
        image.convert("RGB")


def test_images_whose_path_is_none() -> None:
    for path in (Path("a\0b"), Path("x" * 300), Path("nowhere")):
        with pytest.raises(UserError), images.opened(path):
            pass


def _zip(path: Path, name: str = "a.txt", content: bytes = b"x", kind: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = kind << 16
        archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../x", 0, "leaves the folder"),
        ("/x", 0, "leaves the folder"),
        ("C:\\x", 0, "leaves the folder"),
        ("x" * 300, 0, "is longer than a path can be"),
        ("x", 0o120777, "is not a plain file"),
    ],
)
def test_archives_with_members_that_are_refused(
    name: str, kind: int, message: str, tmp_path: Path
) -> None:
    path = _zip(tmp_path / "a.zip", name, kind=kind)
    with (
        pytest.raises(UserError, match=f"a.zip is refused: its member .* {message}"),
        zips.opened(path),
    ):
        pass


def test_archives_that_inflate_too_much(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", content=b"\0" * (65 << 20))
    with (
        pytest.raises(UserError, match=r"would unpack to 68,157,440, more than real data would"),
        zips.opened(path),
    ):
        pass
    with zips.opened(_zip(tmp_path / "b.zip", content=b"\0" * (1 << 20))) as archive:
        assert archive.namelist() == ["a.txt"]


def test_archives_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\5\6" + b"\xff" * 18)
    wrong = (("a.zip", "is not a zip archive, or is damaged"), ("b.zip", "is missing"))
    for name, message in wrong:
        with pytest.raises(UserError, match=message), zips.opened(tmp_path / name):
            pass


def test_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert text.read_text(tmp_path / "a.txt") == "a\nb\nc"
    (tmp_path / "b.txt").write_bytes(b"\xff")
    monkeypatch.setenv("CONDINST_MAX_TEXT_BYTES", "7")
    for name, message in (
        ("a.txt", "a.txt has 9 bytes; the limit is 7"),
        ("b.txt", "b.txt is not UTF-8 text"),
        ("c.txt", "c.txt is missing"),
        (".", "is a folder, not a file"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("x" * 300, "cannot be read: File name too long"),
    ):
        with pytest.raises(UserError, match=message):
            text.read_text(tmp_path / name)


def test_names_for_terminal_and_messages() -> None:
    assert names.shown("a\x1b[2J\ud800\tb\n[/red]") == "a\\x1b[2J\\ud800\tb\n[/red]"
    assert names.brief("x" * 100, 10) == "'xxxxxx..."
    assert names.brief(10**5000) == "a int too large to show"
    assert names.problem("a/b.jpg") is None
    assert names.problem("a\0") == "contains a character with code 0"
    assert names.problem("\udcff.jpg") == "is not UTF-8 text (half of a surrogate pair)"
    assert names.problem("é" * 128) == "is longer than a path can be"
    assert names.expanded("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")
