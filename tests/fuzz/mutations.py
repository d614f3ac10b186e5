"""Strategies that turn sound files into hostile ones.

Each draws ``(name, content)``: the part that the file plays, and its bytes.
"""

from __future__ import annotations

import copy
import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.fuzz import seeds

Mutant = tuple[str, bytes]
Draw = Callable[[st.SearchStrategy[Any]], Any]

# Put into a document as they stand, where a value was.
RAW = {
    "json": ["NaN", "-Infinity", "1e999", "9" * 5000, "9" * 400, "[" * 3000, "[" * 60 + "]" * 60,
             '{"a":' * 90 + "1" + "}" * 90, '"\\ud800"', "[" + "0," * 300_000 + "0]",
             "[" + "[]," * 100_000 + "0]", '"' + "x" * 300_000 + '"', "-0.0", "1E+2"],
    "yaml": ["[" * 200, "{" * 200, "&a [*a]", "*nobody", "!!python/name:os.system",
             "!!binary x", "!!timestamp x", "2001-99-99", "9" * 5000, "1e999", ".nan", '"\\ud83d"',
             '"\\0"', "!!set {a, a}", "? [a]", "<<: 3", "[" + "x, " * 20_000 + "x]", "- - - -",
             "!!int 0x", "0b2", "1:99:99", "@x", "`", "%TAG", "\t", "~", "|+", "!!float x",
             "&x " + "[" * 70 + "]" * 70],
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 1.5, -0.5, 1e6, 1e7, 1e8, 1e16,
    1e300, 5e-324, "", "0", "x", "1e5", "[/red]", "[bold", ":smile:", "\x00", "a\x00b", "\x1b[2J",
    "\ud800", "..", "../x", "/etc/passwd", "~nobody/x", "a" * 300, "a/" * 3000, "\u202e", "é",
    [], {}, [[]], [{}], [None], [0] * 7, ["x"] * 8, [[0, 0], [1, 1], [2, 2]], {"a": {"b": []}},
    [1e8, 1e8, -1e8, 1e8, 0, -1e8], [[0, 0, 1e6, 0, 1e6, 1e6, 0, 1e6]],
    [[0, 0, 1e6, 1e6] * 40], [3] * 600, {"size": [10**5, 10**5], "counts": [10**10]},
    {"size": [32, 48], "counts": "0" * 50}, {"size": [32, 48], "counts": [2**63 - 1, 2**63 - 1]},
    {"size": [32, 48], "counts": "\x7f\x00"}, {"size": [32, 48], "counts": [-1, 1537]},
]  # fmt: skip
NAMES = [
    "../x", "/x", "a/../../x", "C:\\x", "..\\x", "a\x00b", "", ".", "x" * 300, "a" * 5000,
    "runs.json", "a/", "CON", "é" * 200, "files/" + "b" * 32 + "/../../x",
    "files/" + "b" * 32 + "/x", "\ud800",
]  # fmt: skip


@st.composite
def bytes_of(draw: Draw, content: bytes, most: int = 4) -> bytes:
    """A file with a few bytes changed, lost, doubled or added."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        size = draw(st.sampled_from((1, 1, 2, 4, 8, 32, 200)))
        step = draw(st.sampled_from(("flip", "set", "cut", "double", "add", "end", "large")))
        if step == "flip" and found:
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif step == "set":
            found[at : at + size] = draw(st.binary(min_size=size, max_size=size))
        elif step == "cut":
            del found[at : at + size]
        elif step == "double":
            found[at:at] = found[at : at + size] * draw(st.sampled_from((1, 2, 50)))
        elif step == "add":
            found[at:at] = draw(
                st.sampled_from((b"\0", b"\xff" * 8, b"[", b'"', b"{", b"\r\n", b"%"))
            )
        elif step == "end":
            del found[at:]
        else:
            code = draw(st.sampled_from(("<I", ">I", "<H", ">H", "<Q")))
            top = (1 << (8 * struct.calcsize(code))) - 1
            number = draw(st.sampled_from((0, 1, 65_500, 0x7FFFFFFF, top - 1, top)))
            found[at : at + struct.calcsize(code)] = struct.pack(code, min(number, top))
    return bytes(found)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    parts = value.items() if isinstance(value, dict) else ()
    parts = enumerate(value) if isinstance(value, list) else parts
    for key, entry in parts:
        found += _places(entry, (*path, key))
    return found


@st.composite
def tree_of(draw: Draw, content: Any, syntax: str) -> bytes:
    """A document with one to three of its values changed."""
    tree = copy.deepcopy(content)
    raw: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        places = _places(tree)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        node = tree
        for key in way:
            node = node[key]
        step = draw(
            st.sampled_from(("value", "value", "value", "raw", "raw", "lose", "wrap", "key"))
        )
        if step == "value":
            node[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif step == "raw":
            node[last] = f"@@{len(raw)}@@"
            raw.append(draw(st.sampled_from(RAW[syntax])))
        elif step == "lose":
            del node[last]
        elif step == "wrap":
            node[last] = draw(st.sampled_from(([node[last]], {"x": node[last]}, str(node[last]))))
        elif isinstance(node, dict):
            fresh = draw(
                st.sampled_from(("", "x", "\ud800", "[/red]", "a.b", "id", "names", "_BASE_"))
            )
            node[fresh] = node.pop(last)
        else:
            node.append(copy.deepcopy(node[last]))
    return written(tree, syntax, raw)


def written(tree: Any, syntax: str, raw: list[str]) -> bytes:
    """A document with some of its parts as they stand."""
    text = json.dumps(tree) if syntax == "json" else _yaml(tree)
    for number, part in enumerate(raw):
        for quoted in (f'"@@{number}@@"', f"'@@{number}@@'", f"@@{number}@@"):
            text = text.replace(quoted, part, 1)
    return text.encode("utf-8", "replace")


def _yaml(tree: Any) -> str:
    """YAML; text that PyYAML does not write is quoted as JSON, which it reads."""
    try:
        return yaml.safe_dump(tree, sort_keys=False)
    except (yaml.YAMLError, UnicodeError):
        return json.dumps(tree)


def document(name: str, content: Any, syntax: str = "json") -> st.SearchStrategy[Mutant]:
    """Values changed, or bytes."""
    text = written(content, syntax, [])
    either = st.one_of(tree_of(content, syntax), tree_of(content, syntax), bytes_of(text))
    return st.tuples(st.just(name), either)


def binary(name: str, content: bytes) -> st.SearchStrategy[Mutant]:
    """Bytes changed."""
    return st.tuples(st.just(name), bytes_of(content))


@st.composite
def lines_of(draw: Draw, name: str, content: bytes) -> Mutant:
    """A text with some of its words changed."""
    lines = [line.split(b" ") for line in content.split(b"\n")]
    for _ in range(draw(st.integers(1, 3))):
        line = draw(st.sampled_from(lines))
        at = draw(st.integers(0, len(line) - 1))
        word = draw(
            st.sampled_from(
                (b"", b"nan", b"inf", b"1e308", b"-1", b"9" * 5000, b"1e999", b"0x1", b"0.0",
                 b"\xff", b"\0", b"[/red]", b"1_0", "\u0661".encode(), b"0.5 " * 3000,
                 b"0 1 " * 50_000,
                 b"x" * 100_000, b"\xef\xbb\xbf", b"\r", b"\x0c", "\u2028".encode(), b"a/../b",
                 b"cat", b"__ignore__")
            )
        )  # fmt: skip
        line[at] = word
    return name, b"\n".join(b" ".join(line) for line in lines)


@st.composite
def png_of(draw: Draw, name: str, content: bytes) -> Mutant:
    """A PNG whose chunks are changed and carry the right check sums."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    step = draw(st.sampled_from(("header", "header", "pixels", "data", "lose", "add", "sized")))
    k = draw(st.integers(0, len(chunks) - 1))
    if step in ("header", "sized"):
        side = st.sampled_from((0, 1, 5000, 20_000, 65_535, 2**31 - 1, 48, 32))
        depth = st.sampled_from((1, 2, 4, 8, 16, 3))
        kind = st.sampled_from((0, 2, 3, 4, 6, 1))
        sides = (48, 32) if step == "sized" else (draw(side), draw(side))
        chunks[0][1] = struct.pack(
            ">IIBBBBB", *sides, draw(depth), draw(kind), 0, 0, draw(depth) % 2
        )
    elif step == "pixels":
        for chunk in chunks:
            if chunk[0] == b"IDAT":
                chunk[1] = zlib.compress(draw(bytes_of(zlib.decompress(chunk[1]))))
                break
    elif step == "data":
        chunks[k][1] = draw(bytes_of(chunks[k][1] or b"\0"))
    elif step == "lose":
        del chunks[k]
    else:
        bomb = b"x\0\0" + zlib.compress(b"\0" * (64 << 20))
        kinds = (b"zTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"IDAT", b"acTL", b"fdAT")
        content = draw(
            st.sampled_from((bomb, b"", b"\xff" * 40, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"))
        )
        chunks.insert(k, [draw(st.sampled_from(kinds)), content])
    made = b"\x89PNG\r\n\x1a\n"
    for code, data in chunks:
        made += struct.pack(">I", len(data)) + code + data
        made += struct.pack(">I", zlib.crc32(code + data))
    return name, made


@st.composite
def zip_of(draw: Draw, name: str, content: bytes) -> Mutant:
    """An archive whose members are changed and stored with the right check sums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    packed = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))
    buffer = io.BytesIO()
    chosen = draw(st.integers(0, len(members) - 1))
    step = draw(
        st.sampled_from(("bytes", "bytes", "name", "kind", "lose", "twice", "bomb", "torn"))
    )
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for k, (member, data) in enumerate(members):
            info = zipfile.ZipInfo(member)
            if k == chosen:
                if step == "lose":
                    continue
                if step == "bytes":
                    data = draw(bytes_of(data))
                elif step == "name":
                    info.filename = draw(st.sampled_from(NAMES)).encode("utf-8", "replace").decode()
                elif step == "kind":
                    info.external_attr = draw(st.sampled_from((0o120777, 0o40755, 0o60644))) << 16
                elif step == "bomb":
                    data += b"\0" * draw(st.sampled_from((1 << 20, 90 << 20)))
            with warnings.catch_warnings(action="ignore"):  # a name that is there already is meant
                archive.writestr(info, data, packed)
            if k == chosen and step == "twice":
                archive.writestr(zipfile.ZipInfo(member + "x"), data, packed)
    made = buffer.getvalue()
    return name, draw(bytes_of(made)) if step == "torn" else made


@st.composite
def runs_of(draw: Draw) -> Mutant:
    """An archive of runs with another list of them."""
    return "runs.zip", seeds.runs_archive(draw(tree_of(seeds.run_records(), "json")))


def _yolo() -> st.SearchStrategy[Mutant]:
    return st.one_of(
        lines_of("labels/1.txt", seeds.YOLO),
        binary("labels/1.txt", seeds.YOLO),
        lines_of("names.txt", b"cat\ndog"),
        document("data.yaml", yaml.safe_load(seeds.NAMES_YAML), "yaml"),
    )


def _voc() -> st.SearchStrategy[Mutant]:
    masks = ("SegmentationObject/1.png", "SegmentationClass/1.png")
    palette = seeds.label_png([0, 1, 2, 255], "P")
    alpha = seeds.label_png([0, 1, 2, 255], "LA")
    return st.one_of(
        *(png_of(mask, png) for mask in masks for png in (palette, alpha)),
        *(binary(mask, palette) for mask in masks),
        lines_of("list.txt", b"1\n2 1"),
        lines_of("names.txt", b"cat\ndog"),
    )


def _params() -> st.SearchStrategy[Mutant]:
    return document("params.yaml", yaml.safe_load(seeds.PARAMS.read_text()), "yaml")


def _recipe() -> st.SearchStrategy[Mutant]:
    recipe = yaml.safe_load(seeds.RECIPE.read_text())
    whole = {"MODEL": {"FCOS": {"NORM": "GN", "FPN_STRIDES": [8, 16]}, "PIXEL_STD": [57.0, 57.0]}}
    return st.one_of(
        document("r.yaml", {**recipe, "_BASE_": str(seeds.RECIPE)}, "yaml"),
        document("r.yaml", whole, "yaml"),
    )


def _checkpoint() -> st.SearchStrategy[Mutant]:
    stored = seeds.checkpoint()
    return st.one_of(
        zip_of("model.pth", stored),
        binary("model.pth", stored),
        binary("model.pth", seeds.checkpoint(plain=True)),
        binary("model.pkl", seeds.arrays()),
    )


def _archive() -> st.SearchStrategy[Mutant]:
    content = seeds.zipped({"a/1.jpg": seeds.picture(), "b.txt": b"x" * 500})
    return st.one_of(zip_of("data.zip", content), binary("data.zip", content))


def _runs() -> st.SearchStrategy[Mutant]:
    content = seeds.runs_archive()
    return st.one_of(runs_of(), zip_of("runs.zip", content), binary("runs.zip", content))


def _image() -> st.SearchStrategy[Mutant]:
    images = {
        "a.jpg": seeds.picture(),
        "a.png": seeds.picture("PNG"),
        "a.bmp": seeds.picture("BMP"),
        "a.gif": seeds.picture("GIF"),
        "a.webp": seeds.picture("WEBP"),
        "a.tif": seeds.picture("TIFF", compression="tiff_lzw"),
        "b.tif": seeds.picture("TIFF", "I;16"),
        "a.ppm": seeds.picture("PPM"),
    }
    others = (binary(name, content) for name, content in images.items())
    return st.one_of(png_of("a.png", images["a.png"]), *others)


# Of each kind what makes the strategy of its mutants.
KINDS: dict[str, Callable[[], st.SearchStrategy[Mutant]]] = {
    "params": _params,
    "archive": _archive,
    "runs": _runs,
    "image": _image,
    "recipe": _recipe,
    "checkpoint": _checkpoint,
    "LabelMe": lambda: document("1.json", seeds.labelme_content()),
    "VOC": _voc,
    "YOLO": _yolo,
    "COCO": lambda: document("train.json", seeds.coco_content()),
}
