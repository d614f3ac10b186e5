"""Bad input of every kind, and what each policy does with it: for tests and for the docs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condinst.errors import UserError
from pipeline.params import Params, Split

POLICIES = ("strict", "repair", "drop")
WIDTH, HEIGHT = 96, 64

Record = dict[str, Any]

_CONSEQUENCES = ("image left out", "category left out")
_SEVERITY = ("kept", "repaired", "dropped")


@dataclass
class Data:
    """A small dataset that a case spoils: both JSONs' content, and the folder of all images.

    Training has images 1 to 3, each with the annotation of the same id: two polygons and a
    run-length mask of columns 10 to 29. Validation has image 4 with annotation 1.

    Attributes:
        text: of the training JSON where it is not its content.
    """

    train: Record
    val: Record
    folder: Path
    text: str | None = None

    @property
    def image(self) -> Record:
        """The first of training."""
        return self.train["images"][0]

    @property
    def annotation(self) -> Record:
        """Its only one: a square from 10, 10 to 40, 40."""
        return self.train["annotations"][0]

    @property
    def image_file(self) -> Path:
        """Its file."""
        return self.folder / self.image["file_name"]


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        title: what is wrong.
        spoil: makes it so.
        expected: outcome under strict, repair and drop.
        message: part of what is said.
        check: what `repair` gives for the first annotation (or the content), where it is used.
    """

    title: str
    spoil: Callable[[Data], object]
    expected: tuple[str, str, str]
    message: str
    check: Callable[[Record], object] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a policy did.

    Attributes:
        word: ``stops``, ``dropped``, ``repaired``, ``kept`` (and listed) or ``accepted``.
        message: what is said.
        content: of training, as prepared; None where it stops.
    """

    word: str
    message: str
    content: Record | None


def make(folder: Path) -> Data:
    """Write the images of a sound dataset."""
    folder.mkdir(parents=True)
    for number in (1, 2, 3, 4):
        noise = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.jpg")
    square, other = _square(10, 10), _square(50, 20)
    columns = {"size": [HEIGHT, WIDTH], "counts": [10 * HEIGHT, 20 * HEIGHT, 66 * HEIGHT]}
    band = {"segmentation": columns, "bbox": [10, 0, 20, HEIGHT], "area": 20 * HEIGHT}
    shapes = {1: square, 2: other, 3: band}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    train = {
        "images": [_image(number) for number in shapes],
        "annotations": [_annotation(k, k, shape) for k, shape in shapes.items()],
        "categories": categories,
    }
    val = {
        "images": [_image(4)],
        "annotations": [_annotation(1, 4, square)],
        "categories": categories,
    }
    return Data(*json.loads(json.dumps([train, val])), folder)


def _image(number: int) -> Record:
    return {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}


def _annotation(number: int, image: int, shape: Record) -> Record:
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, **shape}


def _square(x: int, y: int) -> Record:
    corners = [x, y, x + 30, y, x + 30, y + 30, x, y + 30]
    return {"segmentation": [corners], "bbox": [x, y, 30, 30], "area": 900}


def run(case: Case, folder: Path, params: Params) -> dict[str, Outcome]:
    """Acquire and prepare spoilt data under each policy, in a folder of its own."""
    data = make(folder / "pictures")
    case.spoil(data)
    text = json.dumps(data.train) if data.text is None else data.text
    (folder / "train.json").write_text(text)
    (folder / "val.json").write_text(json.dumps(data.val))
    splits = {name: Split(json=f"{name}.json", images="pictures") for name in ("train", "val")}
    dataset = dataclasses.replace(params.dataset, source="directory", sample=None, **splits)
    params = dataclasses.replace(params, dataset=dataset)
    former = Path.cwd()
    os.chdir(folder)
    try:
        return {policy: _outcome(params, policy) for policy in POLICIES}
    finally:
        os.chdir(former)


def _outcome(params: Params, policy: str) -> Outcome:
    from pipeline.acquire import stage as acquire
    from pipeline.prepare import stage as prepare

    prepared = Path("data/prepared")
    shutil.rmtree("data", ignore_errors=True)
    params = dataclasses.replace(params, prepare=dataclasses.replace(params.prepare, policy=policy))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            acquire.run(params)
            prepare.run(params)
    except UserError as error:
        return Outcome("stops", _shown(str(error)), None)
    faults = [fault for found in _read(prepared / "faults.json").values() for fault in found]
    content = _read(prepared / "train/annotations.json")
    faults = [fault for fault in faults if fault["kind"] not in _CONSEQUENCES]
    if not faults:
        return Outcome("accepted", "", content)
    worst = max(faults, key=lambda fault: _SEVERITY.index(fault["action"]))
    return Outcome(worst["action"], f"{worst['kind']}: {worst['reason']}", content)


def _shown(error: str) -> str:
    """The line that says what is wrong, without this machine's folders."""
    lines = [line.strip() for line in error.replace(str(Path.cwd()) + "/", "").splitlines()]
    faults = [line for line in lines if " x " in line and line.startswith(("train:", "val:"))]
    faults = [line for line in faults if not any(word in line for word in _CONSEQUENCES)]
    first = lines[0]
    return faults[0].split(" x ", 1)[1] if first.startswith("the data has") else first


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def row(case: Case, outcomes: dict[str, Outcome]) -> str:
    """The case as a line of a Markdown table."""
    message = next((found.message for found in outcomes.values() if found.message), "")
    cells = (case.title, *(outcomes[policy].word for policy in POLICIES), message)
    return f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |"


HEADER = f"| input | {' | '.join(POLICIES)} | message |\n|---|---|---|---|---|"

STOPS = ("stops", "stops", "stops")
DROPPED = ("stops", "dropped", "dropped")
REPAIRED = ("stops", "repaired", "dropped")  # where one answer is right
MENDED = ("stops", "repaired", "repaired")  # where no object changes
KEPT = ("kept", "kept", "kept")
ACCEPTED = ("accepted", "accepted", "accepted")


def _text(text: str) -> Callable[[Data], object]:
    return lambda data: setattr(data, "text", text)


def _put(**values: Any) -> Callable[[Data], object]:
    return lambda data: data.annotation.update(values)


def _lose(*keys: str) -> Callable[[Data], object]:
    return lambda data: [data.annotation.pop(key) for key in keys]


def _without_mask(**values: Any) -> Callable[[Data], object]:
    def spoil(data: Data) -> None:
        _lose("segmentation")(data)
        data.annotation.update(values)

    return spoil


def _image_put(**values: Any) -> Callable[[Data], object]:
    return lambda data: data.image.update(values)


def _save(mode: str, suffix: str = "png", value: Any = None) -> Callable[[Data], object]:
    def spoil(data: Data) -> None:
        picture = Image.open(data.image_file).convert(mode) if value is None else value
        data.image["file_name"] = f"1-{mode.replace(';', '')}.{suffix}"
        picture.save(data.image_file)

    return spoil


def _turned(data: Data) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, shown standing
    picture = Image.open(data.image_file).transpose(Image.Transpose.ROTATE_90)
    picture.save(data.image_file, exif=exif)


def _cut(data: Data) -> None:
    content = data.image_file.read_bytes()
    data.image_file.write_bytes(content[: len(content) // 2])


def _corners(data: Data) -> None:
    for content in (data.train, data.val):
        for entry in content["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x, y, x + w, y + h]


def _renamed_ids(kind: str, change: Callable[[int], Any]) -> Callable[[Data], object]:
    """Other ids of images or categories, in annotations too."""
    lists, key = {"image": ("images", "image_id"), "category": ("categories", "category_id")}[kind]

    def spoil(data: Data) -> None:
        for content in (data.train, data.val):
            for entry in content[lists]:
                entry["id"] = change(entry["id"])
            for entry in content["annotations"]:
                entry[key] = change(entry[key])

    return spoil


def _second(lists: str, **values: Any) -> Callable[[Data], object]:
    """The first entry of a list once more, changed."""
    return lambda data: data.train[lists].append({**data.train[lists][0], **values})


def _shared(data: Data) -> None:
    shutil.copy(data.folder / "4.jpg", data.image_file)


def _swapped(data: Data) -> None:
    data.val["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]


def _twice_named(data: Data) -> None:
    for content in (data.train, data.val):
        content["categories"][1]["name"] = "cat"
    data.train["annotations"][1]["category_id"] = 2


def _copied(data: Data) -> None:
    shutil.copy(data.image_file, data.folder / "9.jpg")
    data.train["images"].append({**data.image, "id": 9, "file_name": "9.jpg"})


def _normalised(data: Data) -> None:
    for content in (data.train, data.val):
        for entry in content["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
            if isinstance(entry["segmentation"], list):
                entry["segmentation"] = [
                    [value / (HEIGHT if k % 2 else WIDTH) for k, value in enumerate(part)]
                    for part in entry["segmentation"]
                ]


def _turned_by_text(data: Data) -> None:
    tag = struct.pack("<HHI4s", 0x0112, 2, 2, b"6")  # of the type of texts
    exif = b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 1) + tag + bytes(4)
    Image.open(data.image_file).copy().save(data.image_file, exif=exif)


def _backslash(data: Data) -> None:
    (data.folder / "sub").mkdir()
    data.image_file.rename(data.folder / "sub/1.jpg")
    data.image["file_name"] = "sub\\1.jpg"


def _no_objects(data: Data) -> None:
    data.train["annotations"] = []


def _no_categories(data: Data) -> None:
    data.train["categories"] = data.val["categories"] = []


def _first(content: Record) -> Record:
    return content["annotations"][0]


def _is(key: str, value: Any) -> Callable[[Record], object]:
    def check(content: Record) -> None:
        assert _first(content)[key] == value, _first(content)

    return check


def _image_is(**values: Any) -> Callable[[Record], object]:
    def check(content: Record) -> None:
        assert content["images"][0] | values == content["images"][0], content["images"][0]

    return check


def _named(content: Record) -> dict[str, int]:
    return {entry["name"]: entry["id"] for entry in content["categories"]}


def _one_category(content: Record) -> None:
    assert [entry["id"] for entry in content["categories"]] == [1]
    assert {entry["category_id"] for entry in content["annotations"]} == {1}


def _pixel(value: list[int] | None = None) -> Callable[[Record], object]:
    """The first image can be read, and is of one value where one is given."""

    def check(content: Record) -> None:
        from condinst.data.images import read_oriented
        from condinst.data.index import open_index

        path = open_index("data/prepared/train")[0]["file_name"]
        pixels = read_oriented(path, (HEIGHT, WIDTH))
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        assert value is None or (pixels == value).all()

    return check


_SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]
_STAR = [24, 4, 36, 40, 6, 18, 42, 18, 12, 40]  # a pentagram
_DEEP = Image.fromarray(np.full((HEIGHT, WIDTH), 200 * 256 + 17, np.uint16))
_SHARES = Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32))
_HUGE = 2**70

CASES = (
    Case("not JSON", _text("images: []"), STOPS, "train.json is not COCO JSON, nor any other"),
    Case("an empty file", _text(""), STOPS, "train.json is not COCO JSON, nor any other"),
    Case("truncated JSON", _text('{"images": [{"id": 1, "fi'), STOPS, "train.json is cut off"),
    Case("a list that is missing", lambda data: data.train.pop("annotations"), STOPS,
         "it has no list annotations"),
    Case("a list that is no list", lambda data: data.train.update(images={}), STOPS,
         "it has no list images"),
    Case("an entry that is no mapping", lambda data: data.train["annotations"].append("x"),
         DROPPED, "no mapping"),
    Case("an annotation without image_id", _lose("image_id"), DROPPED, "its image_id is None"),
    Case("an image without file_name", lambda data: data.image.pop("file_name"), DROPPED,
         "its file_name is None"),
    Case("an image without width", lambda data: data.image.pop("width"), REPAIRED,
         "its width and height are [None, 64], it is 96 x 64", _image_is(width=96)),
    Case("width as text", _image_put(width="96"), REPAIRED, "['96', 64]", _image_is(width=96)),
    Case("bbox as text", _put(bbox="10 10 30 30"), REPAIRED, "must be four finite numbers",
         _is("bbox", [10, 10, 30, 30])),
    Case("an id used for two images", _second("images", file_name="2.jpg"), DROPPED,
         "1.jpg and 2.jpg share its id"),
    Case("an image listed twice", _second("images"), MENDED, "it is listed before"),
    Case("an image under two ids", _second("images", id=9), MENDED,
         "image 1 is the same file; its annotations go there"),
    Case("an image of the same content under two names", _copied, MENDED,
         "image 1 (1.jpg) is the same image byte for byte"),
    Case("an object listed twice", _second("annotations", id=9), MENDED,
         "its class and mask are those of annotation 1"),
    Case("an id of two annotations", _second("annotations", image_id=2), REPAIRED,
         "its id 1 is used before"),
    Case("an annotation of an unknown image", _put(image_id=99), DROPPED,
         "its image_id is 99, which is not listed"),
    Case("an annotation of an unknown category", _put(category_id=99), DROPPED,
         "its category_id is 99, which is not listed"),
    Case("no category", _no_categories, STOPS, "list no category"),
    Case("a category without name", lambda data: data.train["categories"][0].pop("name"),
         ("stops", "repaired", "stops"), "its name is None"),
    Case("an id of two categories", _second("categories", name="cow"), STOPS,
         "the categories 'cat' and 'cow' share the id 1"),
    Case("a name of two categories", _twice_named, MENDED, "category 1 is 'cat' too",
         _one_category),
    Case("categories numbered differently in train and val", _swapped,
         ("stops", "repaired", "stops"), "in the other split"),
    Case("annotation id 0", _put(id=0), MENDED, "its id is 0", _is("id", 4)),
    Case("no annotation id", _lose("id"), MENDED, "it has no id", _is("id", 4)),
    Case("a negative annotation id", _put(id=-7), MENDED, "its id is -7", _is("id", 4)),
    Case("an annotation id too large", _put(id=_HUGE), MENDED, f"its id is {_HUGE}", _is("id", 4)),
    Case("a fraction as annotation id", _put(id=1.5), MENDED, "its id is 1.5", _is("id", 4)),
    Case("image and category id 0", lambda data: [
        _renamed_ids(kind, lambda k: k - 1)(data) for kind in ("image", "category")
    ], ACCEPTED, ""),
    Case("negative image ids", _renamed_ids("image", lambda k: -k), MENDED,
         "its id is -1; it gets a number", _image_is(id=1)),
    Case("negative category ids", _renamed_ids("category", lambda k: -k), MENDED,
         "its id is -1; it gets a number",
         lambda content: _is("category_id", _named(content)["cat"])(content)),
    Case("image ids too large", _renamed_ids("image", lambda k: _HUGE + k), MENDED,
         "is too large for numbers that are exact in all tools", _image_is(id=1)),
    Case("image ids as fractions", _renamed_ids("image", float), MENDED,
         "its id is 1.0, not a whole number", _image_is(id=1)),
    Case("an image id that is no number", _image_put(id=1.5), DROPPED,
         "its id is 1.5, must be a whole number or a text"),
    Case("image ids as texts", _renamed_ids("image", lambda k: f"a{k}"), KEPT,
         "its id is the text 'a1'; it gets a number", _is("image_id", 1)),
    Case("category ids as texts", _renamed_ids("category", lambda k: f"c{k}"), KEPT,
         "its id is the text 'c1'; it gets a number", _is("category_id", 1)),
    Case("no box", _lose("bbox"), MENDED, "it has no bbox", _is("bbox", [10, 10, 30, 30])),
    Case("a box of no size", _put(bbox=[10, 10, 0, 30]), REPAIRED, "is empty",
         _is("bbox", [10, 10, 30, 30])),
    Case("a box of negative size", _put(bbox=[40, 40, -30, -30]), REPAIRED, "is empty",
         _is("bbox", [10, 10, 30, 30])),
    Case("a box with NaN", _put(bbox=[10, float("nan"), 30, 30]), REPAIRED, "four finite numbers",
         _is("bbox", [10, 10, 30, 30])),
    Case("a box outside of the image", _put(bbox=[200, 10, 30, 30]), REPAIRED,
         "lies outside its image of 96 x 64", _is("bbox", [10, 10, 30, 30])),
    Case("a box that sticks out", _put(
        bbox=[70, 10, 40, 30], segmentation=[[70, 10, 95, 10, 95, 40, 70, 40]], area=750,
    ), MENDED, "is cut to its image of 96 x 64", _is("bbox", [70, 10, 26, 30])),
    Case("a box elsewhere than its mask", _put(bbox=[60, 30, 20, 20]), REPAIRED,
         "is not around its mask, which is at 10, 10, 30, 30", _is("bbox", [10, 10, 30, 30])),
    Case("all boxes as corners", _corners, ("stops", "repaired", "stops"),
         "its bbox [10, 10, 40, 40] must be x, y, width, height in pixels; it fits its mask as "
         "corners", _is("bbox", [10, 10, 30, 30])),
    Case("all coordinates normalised", _normalised, ("stops", "repaired", "stops"),
         "its polygons are shares of width and height, must be pixels",
         _is("bbox", [10, 10, 30, 30])),
    Case("no segmentation: only a box", _lose("segmentation"), ACCEPTED, "",
         _is("bbox", [10, 10, 30, 30])),
    Case("no polygon: only a box", _put(segmentation=[]), ACCEPTED, "", _is("segmentation", [])),
    Case("no segmentation, a box of no size", _without_mask(bbox=[10, 10, 0, 30]), DROPPED,
         "it has no mask, and its bbox [10, 10, 0, 30] is empty"),
    Case("no segmentation, a box outside", _without_mask(bbox=[200, 10, 30, 30]), DROPPED,
         "lies outside its image of 96 x 64"),
    Case("no segmentation, a box that sticks out", _without_mask(bbox=[70, 10, 40, 30]), MENDED,
         "its bbox [70, 10, 40, 30] is cut", _is("bbox", [70, 10, 26, 30])),
    Case("no segmentation, no area", _without_mask(area=None), MENDED, "taken from its box",
         _is("area", 900.0)),
    Case("neither a segmentation nor a box", _lose("segmentation", "bbox"), DROPPED,
         "it has no segmentation"),
    Case("a polygon of two points", _put(segmentation=[[10, 10, 40, 40]]), DROPPED,
         "a polygon of 4 numbers is not three points or more"),
    Case("a polygon of two points beside another", _put(segmentation=[_SQUARE, [1, 1, 2, 2]]),
         MENDED, "1 of its 2 polygons left out", _is("segmentation", [_SQUARE])),
    Case("an odd count of numbers", _put(segmentation=[[*_SQUARE, 10]]), DROPPED,
         "a polygon of 9 numbers"),
    Case("a polygon with NaN", _put(segmentation=[[*_SQUARE, 10, float("nan")]]), DROPPED,
         "no list of finite numbers"),
    Case("a polygon as one flat list", _put(segmentation=_SQUARE), REPAIRED,
         "its polygons are no lists [x, y, x, y, ...] in a list", _is("segmentation", [_SQUARE])),
    Case("a polygon as pairs", _put(segmentation=[[[10, 10], [40, 10], [40, 40], [10, 40]]]),
         REPAIRED, "no lists [x, y, x, y, ...] in a list", _is("segmentation", [_SQUARE])),
    Case("a polygon that crosses itself", _put(segmentation=[_STAR], bbox=[6, 4, 36, 36]),
         ACCEPTED, ""),
    Case("a polygon outside of the image", _put(
        segmentation=[[110, 10, 140, 10, 140, 40]], bbox=[110, 10, 30, 30], area=450,
    ), DROPPED, "its polygons lie outside"),
    Case("a polygon that sticks out", _put(
        segmentation=[[80, 10, 110, 10, 110, 40, 80, 40]], bbox=[80, 10, 16, 30], area=480,
    ), MENDED, "its polygons are cut: x 80 to 110",
         _is("segmentation", [[80, 10, 96, 10, 96, 40, 80, 40]])),
    Case("a polygon that encloses nothing", _put(segmentation=[[10, 10, 40, 10, 20, 10]]),
         DROPPED, "its polygons enclose nothing"),
    Case("RLE of another size", _put(segmentation={"size": [32, 48], "counts": [0, 1536]}), DROPPED,
         "its run-length mask is of size [32, 48], its image of [64, 96]"),
    Case("RLE of half the image's size, within its box", _put(segmentation={
        "size": [32, 48], "counts": [165, *[15, 17] * 14, 15, 908],
    }), REPAIRED, "of size [32, 48], its image of [64, 96]; scaled by 2", _is("area", 900)),
    Case("RLE in a list", lambda data: data.train["annotations"][2].update(
        segmentation=[data.train["annotations"][2]["segmentation"]],
    ), REPAIRED, "its run-length mask is in a list"),
    Case("a polygon of texts", _put(segmentation=[[str(value) for value in _SQUARE]]), REPAIRED,
         "its numbers are texts", _is("segmentation", [_SQUARE])),
    Case("RLE of too few pixels", _put(segmentation={"size": [64, 96], "counts": [5, 9]}), DROPPED,
         "its run-length mask covers 14 of 6144 pixels"),
    Case("corrupt compressed RLE", _put(segmentation={"size": [64, 96], "counts": "~"}), DROPPED,
         "its run-length mask is damaged"),
    Case("no area", _lose("area"), MENDED, "it has no area", _is("area", 900)),
    Case("a wrong area", _put(area=1_000_000), MENDED,
         "its area is 1e+06, its mask has 900 pixels", _is("area", 900)),
    Case("an area of NaN", _put(area=float("nan")), MENDED, "must be a number", _is("area", 900)),
    Case("no iscrowd", _lose("iscrowd"), MENDED, "it has no iscrowd", _is("iscrowd", 0)),
    Case("iscrowd true or false", _put(iscrowd=False), MENDED, "its iscrowd is False",
         _is("iscrowd", 0)),
    Case("iscrowd of another value", _put(iscrowd=2), DROPPED, "its iscrowd is 2, must be 0 or 1"),
    Case("iscrowd with a polygon", _put(iscrowd=1), KEPT, "a crowd region drawn as polygons"),
    Case("an image that is missing", lambda data: data.image_file.unlink(), DROPPED,
         "there is no file"),
    Case("an unreadable image", lambda data: data.image_file.write_text("no image"), DROPPED,
         "does not decode: it is not an image in a known format"),
    Case("a truncated image", _cut, DROPPED, "does not decode: image file is truncated"),
    Case("a CMYK image", _save("CMYK", "jpg"), KEPT, "it is CMYK, converted to RGB", _pixel()),
    Case("a 16-bit image", _save("I;16", value=_DEEP), KEPT,
         "it is 16-bit, scaled to 8 bits", _pixel([200] * 3)),
    Case("an image of shares", _save("F", "tif", _SHARES), KEPT,
         "it is floating-point, scaled to 8 bits", _pixel([255] * 3)),
    Case("a grey image", _save("L"), ACCEPTED, "", _pixel()),
    Case("an image with alpha", _save("RGBA"), KEPT, "an alpha channel, which is left out",
         _pixel()),
    Case("an image turned by EXIF", _turned, ACCEPTED, "", _pixel()),
    Case("an EXIF orientation that is a text", _turned_by_text, ACCEPTED, "", _pixel()),
    Case("an image of another size", _image_put(width=120), REPAIRED,
         "it is 96 x 64, the annotations say 120 x 64", _image_is(width=96)),
    Case("an image of another size with RLE",
         lambda data: data.train["images"][2].update(width=120), DROPPED,
         "run-length masks fit no other size"),
    Case("an image resized after annotating", _image_put(width=192, height=128), DROPPED,
         "it was resized, its annotations were not"),
    Case("a path that leaves the folder", _image_put(file_name="../1.jpg"), DROPPED,
         "its file_name '../1.jpg' leads out of the folder of images"),
    Case("a file name with a backslash", _backslash, MENDED,
         "its file_name is 'sub\\\\1.jpg', the file is 'sub/1.jpg'",
         _image_is(file_name="sub/1.jpg")),
    Case("no image with an object", _no_objects, STOPS, "no image of train has an object"),
    Case("an image in train and val", _shared, DROPPED, "val has the same image, as 4.jpg"),
)  # fmt: skip
