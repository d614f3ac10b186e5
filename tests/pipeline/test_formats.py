"""YOLO-seg, VOC's masks and LabelMe: what is written from COCO content is read back the same."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from condinst.annotations.checks import check_annotations
from condinst.errors import UserError
from pipeline.acquire import formats
from pipeline.acquire import stage as acquire
from pipeline.acquire.changes import changed_files, check
from pipeline.acquire.formats import voc, yolo
from pipeline.acquire.formats.names import read as read_names
from pipeline.acquire.sample import write_sample
from pipeline.params import RandomSplit, Split
from tests.pipeline.other_formats import mask, names, objects, write_labelme, write_voc, write_yolo

if TYPE_CHECKING:
    from pipeline.params import Params

Record = dict[str, Any]

SEED = 9  # with crowds, polygons and run-length masks


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_sample(root, seed=SEED, train_images=8, val_images=1)
    return root


@pytest.fixture
def content(drawn: Path, tmp_path: Path) -> Record:
    """The content of eight drawn images in ``images/train``, a class list in ``names.txt``."""
    shutil.copytree(drawn, tmp_path / "images")
    found = json.loads((tmp_path / "images/annotations/instances_train.json").read_text())
    Path("names.txt").write_text("\n".join(names(found)) + "\n")
    assert any(entry["iscrowd"] for entry in found["annotations"])
    assert {type(entry["segmentation"]) for _, entry in objects(found)} == {list, dict}
    return found


def imported(split: Split, folder: str = "out") -> Record:
    Path(folder).mkdir()
    converted = formats.convert({"train": split}, Path(folder))
    return json.loads(converted["train"].paths.annotations.read_text())


def split_of(kind: str, **values: Any) -> Split:
    return Split(**{"format": kind, "images": "images/train", "names": "names.txt", **values})


def by_image(content: Record, *, polygons: bool | None = None) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {image["file_name"]: [] for image in content["images"]}
    for image, entry in objects(content, polygons=polygons):
        found[image["file_name"]].append(entry)
    return found


def require_equal(found: Record, expected: Record, *, polygons: bool | None = None) -> None:
    """Images, classes, corners to a hundredth of a pixel, and masks to the pixel."""
    assert found["categories"] == [
        {"id": entry["id"], "name": entry["name"]} for entry in expected["categories"]
    ]
    keys = ("file_name", "width", "height")
    assert [[i[k] for k in keys] for i in found["images"]] == [
        [i[k] for k in keys] for i in expected["images"]
    ]
    wanted = by_image(expected, polygons=polygons)
    sizes = {image["file_name"]: image for image in expected["images"]}
    assert sum(map(len, wanted.values())) > 5
    for name, entries in by_image(found).items():
        assert len(entries) == len(wanted[name])
        for entry, other in zip(entries, wanted[name], strict=True):
            assert entry["category_id"] == other["category_id"]
            if isinstance(other["segmentation"], list):
                np.testing.assert_allclose(entry["segmentation"], other["segmentation"], atol=0.01)
            else:
                assert (mask(entry, sizes[name]) == mask(other, sizes[name])).all()
                assert entry["bbox"] == other["bbox"]
            assert entry["area"] == pytest.approx(other["area"], rel=0.01, abs=2)
    assert len({entry["id"] for entry in found["annotations"]}) == len(found["annotations"])


def test_yolo_comes_back(content: Record) -> None:
    write_yolo(content, Path("labels/train"))
    require_equal(imported(split_of("yolo-seg")), content, polygons=True)


def test_labelme_comes_back(content: Record) -> None:
    write_labelme(content, Path("images/train"), "")
    require_equal(imported(split_of("labelme")), content)
    write_labelme(content, Path("json"), "..\\images\\train\\")
    require_equal(imported(split_of("labelme", labels="json"), "again"), content)


@pytest.mark.parametrize("colours", [False, True])
def test_voc_comes_back_to_the_pixel(content: Record, *, colours: bool) -> None:
    visible = write_voc(content, Path("voc"), colours=colours)
    found = imported(split_of("voc", labels="voc"))
    sizes = {image["file_name"]: image for image in found["images"]}
    assert found["categories"] == [
        {"id": entry["id"], "name": entry["name"]} for entry in content["categories"]
    ]
    assert sizes.keys() == visible.keys()
    for name, entries in by_image(found).items():
        regions = {(e["category_id"], mask(e, sizes[name]).tobytes()) for e in entries}
        assert regions == {(kind, region.tobytes()) for kind, region in visible[name]}
        for entry in entries:
            ys, xs = np.nonzero(mask(entry, sizes[name]))
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert entry["bbox"] == box
            assert entry["area"] == len(xs)


def test_voc_palette_by_hand() -> None:
    colours = voc.palette().tolist()
    assert colours[:3] == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert colours[15] == [192, 128, 128]  # VOC's person
    assert colours[255] == [224, 224, 192]
    assert len({tuple(colour) for colour in colours}) == 256


def test_a_list_chooses_and_names_by_labels(content: Record) -> None:
    write_labelme(content, Path("json"), "")
    chosen = [image["file_name"] for image in content["images"][2:5]]
    Path("list.txt").write_text(f"{chosen[0]}\n{Path(chosen[1]).stem}\n\n/far/away/{chosen[2]}\n")
    found = imported(split_of("labelme", labels="json", names=None, list="list.txt"))
    assert [image["file_name"] for image in found["images"]] == chosen
    labels = {
        names(content)[entry["category_id"] - 1]
        for image, entry in objects(content)
        if image["file_name"] in chosen
    }
    assert [entry["name"] for entry in found["categories"]] == sorted(labels)
    Path("list.txt").write_text("nobody\n")
    with pytest.raises(UserError, match=r"train.list: .* lists 1 images .*nobody"):
        imported(split_of("labelme", labels="json", list="list.txt"), "again")


def labelled(shapes: list[Any], **values: Any) -> None:
    text = {"imagePath": "000001.jpg", "shapes": shapes, **values}
    Path("json").mkdir(exist_ok=True)
    Path("json/000001.json").write_text(json.dumps(text))


def shape(kind: str, *points: tuple[float, float], **values: Any) -> Record:
    return {"label": "disc", "shape_type": kind, "points": points, **values}


def test_labelme_shapes_become_objects_by_group(content: Record) -> None:
    labelled(
        [
            shape("rectangle", (20, 30), (10, 5)),
            shape("circle", (40, 40), (50, 40)),
            shape("polygon", (0, 0), (9, 0), (0, 9), group_id=4),
            shape("polygon", (50, 50), (59, 50), (50, 59), group_id=4),
            shape("polygon", (50, 50), (59, 50), (50, 59), group_id=4) | {"label": "__ignore__"},
        ]
    )
    found = imported(split_of("labelme", labels="json", names=None))
    assert found["categories"] == [{"id": 1, "name": "disc"}]
    box, circle, parts = found["annotations"]
    assert box["segmentation"] == [[10, 5, 20, 5, 20, 30, 10, 30]]
    assert (box["bbox"], box["area"]) == ([10, 5, 10, 25], 250)
    assert circle["bbox"] == [30, 30, 20, 20]
    assert circle["area"] == pytest.approx(np.pi * 100, rel=0.03)
    assert parts["segmentation"] == [[0, 0, 9, 0, 0, 9], [50, 50, 59, 50, 50, 59]]


TRIANGLE = ((0, 0), (9, 0), (0, 9))


def test_a_rotated_rectangle_is_its_corners(content: Record) -> None:
    labelled([shape("rotation", (20, 10), (30, 20), (20, 30), (10, 20), direction=0.78)])
    (entry,) = imported(split_of("labelme", labels="json", names=None))["annotations"]
    assert entry["segmentation"] == [[20, 10, 30, 20, 20, 30, 10, 20]]


def test_one_bad_line_is_decided_on_by_the_policy(
    params: Params, content: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """A box among polygons, a class as a fraction, a class that is not named, a stray text."""
    from pipeline.prepare import stage as prepare

    for split, number in (("train", 1), ("val", 3)):
        Path(f"labels/{split}").mkdir(parents=True)
        shutil.copytree("images/train", f"pictures/{split}")
        for path in Path(f"pictures/{split}").glob("*.jpg"):
            if path.name not in (f"{number:06d}.jpg", f"{number + 1:06d}.jpg"):
                path.unlink()
        text = "0 0 0 1 0 1 1\n0 0.25 0.5 0.5 0.5\n1.0 0 0 0.5 0 0.5 1\n99 0 0 1 0 1 1\n"
        Path(f"labels/{split}/{number:06d}.txt").write_text(text)
        Path(f"labels/{split}/nobody.txt").write_text("")
    places = {
        f"{split}": split_of("yolo-seg", images=f"pictures/{split}", labels=f"labels/{split}")
        for split in ("train", "val")
    }
    wanted = with_dataset(params, **places)
    acquire.run(wanted)
    assert "3 labels cannot be used: prepare.policy decides" in capsys.readouterr().out.replace(
        "\n", " "
    )
    strict = dataclasses.replace(
        wanted, prepare=dataclasses.replace(params.prepare, policy="strict")
    )
    with pytest.raises(UserError, match=r"3 x label unusable") as caught:
        prepare.run(strict)
    assert "1 x label in another writing" in str(caught.value)
    for policy in ("repair", "drop"):
        changed = dataclasses.replace(params.prepare, policy=policy)
        prepare.run(dataclasses.replace(wanted, prepare=changed))
        kept = {
            split: json.loads(Path(f"data/prepared/{split}/annotations.json").read_text())
            for split in ("train", "val")
        }
        assert [entry["category_id"] for entry in kept["train"]["annotations"]] == [1, 2]
        assert "unread" not in kept["train"]["info"]
        crowds = [entry["iscrowd"] for entry in kept["val"]["annotations"]]
        assert crowds == [0, 0, 1], "the box is a region to ignore"
        splits = json.loads(Path("data/prepared/dataset.json").read_text())["splits"]
        assert (splits["val"]["ignored"], splits["val"]["crowds"]) == (1, 0)
        assert "ignored" not in splits["train"]


SHAPES = [
    ([shape("line", (0, 0), (1, 1))], "shape 0: is a line; a mask needs a polygon, a rectangle"),
    ([shape("polygon", (0, 0), (1, 1))], "is a polygon with 2 points; it needs 3 or more"),
    ([shape("circle", (0, 0))], "is a circle with 1 points; it needs 2"),
    ([shape("polygon", (0, 0), (1, 1), (float("nan"), 2))], "not pairs of finite numbers"),
    ([shape("polygon") | {"points": [[1, 2], [3], [4, 5]]}], "not pairs of numbers"),
    ([shape("polygon", *TRIANGLE) | {"label": ""}], "label is '', must be a class name"),
    ([shape("polygon", *TRIANGLE) | {"label": "cat"}], "train.names does not contain cat"),
    ([7], "is not a mapping"),
    ([shape("mask", (0, 0), (4, 4), mask="!")], "mask is not a base64 PNG"),
]


@pytest.mark.parametrize(("shapes", "message"), SHAPES)
def test_labelme_faults(content: Record, shapes: list[Any], message: str) -> None:
    labelled(shapes)
    with pytest.raises(UserError, match=message):
        imported(split_of("labelme", labels="json"))
    assert not Path("out/annotations").exists()


def test_labelme_files_that_fit_no_picture(content: Record) -> None:
    labelled([], imageHeight=5, imageWidth=7)
    Path("json/coco.json").write_text('{"images": []}')
    Path("json/torn.json").write_text("{")
    Path("json/twice.json").write_text('{"imagePath": "000001.jpg", "shapes": []}')
    Path("json/away.json").write_text('{"imagePath": "away.jpg", "shapes": []}')
    with pytest.raises(UserError) as caught:
        imported(split_of("labelme", labels="json"))
    for message in (
        "the labels have 5 faults",
        "000001.json: says 7 x 5 pixels, 000001.jpg is ",
        "coco.json is not a LabelMe JSON",
        "torn.json is cut off",
        "twice.json: ",
        "labels the same image 000001.jpg",
        "its image away.jpg is not in",
    ):
        assert message in str(caught.value)
    with pytest.raises(UserError, match="has no LabelMe JSON"):
        imported(split_of("labelme"), "again")


LINES = [
    ("9 0 0 1 0 1 1", "the class is 9, but the names go from 0 to"),
    ("-1 0 0 1 0 1 1", "the class is -1, must be a number from 0 to"),
    ("disc 0 0 1 0 1 1", "the class is disc, must be a number"),
    ("0 0.5 0.5 0.2 0.2", r"is a box \(4 numbers after the class\)"),
    ("0 0 0 1 0 1", "5 numbers after the class; corners need two each"),
    ("0 0 0", "a polygon of 1 corners"),
    ("0", "a polygon of 0 corners"),
    ("0 0 0 1 0 1 x", "a coordinate is not a number"),
    ("0 0 0 1 0 1 nan", "coordinate nan; they are fractions"),
    ("0 0 0 320 0 320 240", "coordinate 320; they are fractions"),
    ("0 0 0 1 0 1 -0.5", "coordinate -0.5; they are fractions"),
]


@pytest.mark.parametrize(("line", "message"), LINES)
def test_yolo_faults(content: Record, line: str, message: str) -> None:
    Path("labels/train").mkdir(parents=True)
    Path("labels/train/000001.txt").write_text(f"\n0 0 0 1 0 1 1\n{line}\n")
    found = imported(split_of("yolo-seg"))
    (unread,) = [entry["unread"] for entry in found["annotations"] if "unread" in entry]
    assert re.search(rf"000001.txt line 3: {message}", unread)
    (fault,) = check_annotations(found, "strict").faults
    assert (fault.kind, fault.action, fault.reason) == ("label unusable", "refused", unread)
    assert len(check_annotations(found, "drop").content["annotations"]) == 1


def test_all_faults_are_named_at_once(content: Record) -> None:
    Path("labels/train").mkdir(parents=True)
    Path("labels/train/000001.txt").write_text("0 0\n" * 30)
    Path("labels/train/nobody.txt").write_text("")
    with pytest.raises(UserError) as caught:
        imported(split_of("yolo-seg"))
    text = str(caught.value)
    assert "the labels have 31 faults" in text
    assert "nobody.txt has no image in" in text
    assert "and 11 more" in text


def test_a_picture_without_labels_has_no_objects(
    content: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("labels/train").mkdir(parents=True)
    Path("labels/train/000002.txt").write_text("")
    Path("labels/train/000003.txt").write_text("1 0 0 1 0 1 1\n")
    found = imported(split_of("yolo-seg"))
    assert len(found["images"]) == 8
    assert [entry["image_id"] for entry in found["annotations"]] == [3]
    said = " ".join(capsys.readouterr().out.split())
    assert "train: 1 objects in 8 images (yolo-seg); 6 images have no labels: treated" in said


def test_yolo_labels_stand_where_images_does() -> None:
    assert yolo.labels_folder(Path("/images/set/images/train")) == Path("/images/set/labels/train")
    with pytest.raises(UserError, match="no folder `images` in its path"):
        yolo.labels_folder(Path("/data/pictures"))


def put(folder: str, array: Any) -> None:
    Image.fromarray(np.asarray(array)).save(f"voc/{folder}/000001.png")


def test_voc_faults(content: Record) -> None:
    write_voc(content, Path("voc"))
    with Image.open("images/train/000001.jpg") as opened:
        w, h = opened.size
    instances, classes = np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
    for number in range(1, 5):
        instances[number * 10] = number
    classes[10, :5], classes[10, 5:] = 1, 2
    classes[20], classes[40] = 200, 255
    put("SegmentationObject", instances)
    put("SegmentationClass", classes)
    Path("voc/SegmentationClass/000002.png").unlink()
    found = imported(split_of("voc", labels="voc"))
    unread = list(filter(None, unread_of(found).splitlines()))
    assert len(unread) == 5
    for message in (
        "instance 1 has classes 1, 2 in",
        "instance 2 has class 200 in",
        "instance 3 is background (0) in",
        "instance 4 has only void pixels (255) in",
        "SegmentationClass/000002.png missing",
    ):
        assert any(message in text for text in unread)
    put("SegmentationObject", np.zeros((3, 4), np.uint8))
    text = unread_of(imported(split_of("voc", labels="voc"), "again"))
    assert f"000001.png is 4 x 3 pixels, 000001.jpg is {w} x {h}" in text
    put("SegmentationObject", instances)
    put("SegmentationClass", np.full((h, w, 3), 3, np.uint8))
    text = unread_of(imported(split_of("voc", labels="voc"), "third"))
    assert re.search(r"has a colour in .* that is not in VOC's palette", text)


def unread_of(content: Record) -> str:
    return "\n".join(entry.get("unread", "") for entry in content["annotations"])


def test_voc_takes_pictures_with_masks_and_many_instances(
    content: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(content, Path("voc"))
    for name in ("Object", "Class"):
        Path(f"voc/Segmentation{name}/000001.png").unlink()
    with Image.open("images/train/000002.jpg") as opened:
        w, h = opened.size
    instances = np.zeros((h, w), np.uint16)
    instances[1, 1:4], instances[3, 1:4] = 255, 300  # beyond 8 bits 255 is an instance too
    Image.fromarray(instances).save("voc/SegmentationObject/000002.png")
    classes = np.where(instances > 0, 1, 0).astype(np.uint8)
    Image.fromarray(classes).save("voc/SegmentationClass/000002.png")
    found = imported(split_of("voc", labels="voc"))
    assert "1 images without masks are left out" in capsys.readouterr().out
    assert found["images"][0]["file_name"] == "000002.jpg"
    assert [entry["area"] for entry in found["annotations"] if entry["image_id"] == 1] == [3, 3]
    Path("list.txt").write_text("000001  1\n")
    with pytest.raises(UserError, match=r"000001.png missing"):
        imported(split_of("voc", labels="voc", list="list.txt"), "again")


NAMES = [
    ("a.yaml", "names: [cat, dog]", ["cat", "dog"]),
    ("a.yaml", "names: {1: dog, 0: cat}\nnc: 2", ["cat", "dog"]),
    ("a.txt", "\ufeffcat\n\n dog \n", ["cat", "dog"]),
    ("a.txt", "__ignore__\n_background_\ncat", ["cat"]),
]
BAD_NAMES = [
    ("a.yaml", "names: {0: cat, 2: dog}", "without gaps"),
    ("a.yaml", "path: x", "needs names: as a list"),
    ("a.yaml", "names: [", "is not valid YAML"),
    ("a.txt", "\n", "has no class names"),
    ("a.txt", "cat\ndog\ncat", "has cat more than once"),
    ("a.txt", b"\xff\xfe\x00", "is not UTF-8 text"),
]


@pytest.mark.parametrize(("name", "text", "expected"), NAMES)
def test_names(name: str, text: str, expected: list[str]) -> None:
    Path(name).write_text(text, encoding="utf-8")
    assert read_names(Path(name), "dataset.train.names") == expected


@pytest.mark.parametrize(("name", "text", "message"), BAD_NAMES)
def test_names_that_cannot_be_read(name: str, text: str | bytes, message: str) -> None:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        read_names(Path(name), "dataset.train.names")


def test_what_is_not_there_is_named(content: Record) -> None:
    for values, message in (
        ({"images": "nowhere"}, "dataset.train.images: the folder .*nowhere does not exist"),
        ({"names": "nothing"}, "dataset.train.names: the file .*nothing does not exist"),
        ({"labels": "none"}, "dataset.train.labels: the folder .*none does not exist"),
        ({"images": "images/annotations"}, "has no images"),
    ):
        with pytest.raises(UserError, match=message):
            formats.convert({"train": split_of("yolo-seg", **values)}, Path())
    Image.new("RGB", (9, 9)).save("images/train/000001.png")
    with pytest.raises(UserError, match="would share their labels"):
        formats.convert({"train": split_of("yolo-seg")}, Path())
    Path("images/train/000001.png").unlink()
    Path("labels/train").mkdir(parents=True)
    Path("images/train/000001.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"1 faults:\n.*000001.jpg does not decode"):
        formats.convert({"train": split_of("yolo-seg")}, Path())


def with_dataset(params: Params, **values: Any) -> Params:
    dataset = dataclasses.replace(params.dataset, source="directory", sample=None, **values)
    return dataclasses.replace(params, dataset=dataset)


def test_from_labels_to_the_index(params: Params, content: Record) -> None:
    from pipeline.prepare import stage as prepare

    val = json.loads(Path("images/annotations/instances_val.json").read_text())
    write_yolo(content, Path("labels/train"))
    write_labelme(val, Path("images/val"), "")
    wanted = with_dataset(
        params,
        train=split_of("yolo-seg"),
        val=split_of("labelme", images="images/val"),
    )
    acquire.run(wanted)
    prepare.run(wanted)
    found = json.loads(Path("data/prepared/dataset.json").read_text())
    assert [entry["name"] for entry in found["categories"]] == names(content)
    count = len(list(objects(content, polygons=True)))
    assert found["splits"]["train"]["images"] == 8
    assert found["splits"]["train"]["objects"] == count
    assert json.loads(Path("data/prepared/faults.json").read_text()) == {"train": [], "val": []}


def test_one_folder_is_parted_and_watched(params: Params, content: Record) -> None:
    write_labelme(content, Path("images/train"), "")
    whole = RandomSplit(format="labelme", images="images/train", val_share=0.25, seed=1)
    acquire.run(with_dataset(params, split=whole))
    raw = Path("data/raw")
    assert sorted(path.name for path in (raw / "annotations").iterdir()) == [
        "instances_train.json",
        "instances_val.json",
    ]
    halves = [json.loads(path.read_text()) for path in sorted((raw / "annotations").iterdir())]
    assert [len(half["images"]) for half in halves] == [6, 2]
    assert changed_files(raw) == []
    json_path = Path("images/train/000001.json").resolve()
    json_path.write_text(json_path.read_text().replace("disc", "ring").replace("}", "} "))
    with pytest.raises(UserError, match=r"1 files changed.*\n.*000001.json"):
        check(raw)
    acquire.run(with_dataset(params, split=whole))
    Image.new("RGB", (9, 9)).save("images/train/new.png")
    assert changed_files(raw) == [json_path.parent]


def test_the_json_that_was_parted_is_watched(params: Params, content: Record) -> None:
    path = Path("images/annotations/instances_train.json").resolve()
    whole = RandomSplit(json=str(path), images="images/train", val_share=0.25)
    acquire.run(with_dataset(params, split=whole))
    assert changed_files(Path("data/raw")) == []
    path.write_text(path.read_text().replace("disc", "ring"))
    assert changed_files(Path("data/raw")) == [path]
    path.unlink()
    assert changed_files(Path("data/raw")) == [path]
