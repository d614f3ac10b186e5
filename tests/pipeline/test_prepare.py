from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from condinst.errors import UserError
from pipeline.acquire import manifest
from pipeline.prepare import stage as prepare

if TYPE_CHECKING:
    from pipeline.params import Params

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def acquired(tiny_dataset: Any) -> Callable[..., Path]:
    """Fills data/raw; the training annotations can be changed first."""

    def fill(change: Change = lambda content: None) -> Path:
        raw = Path("data/raw")
        raw.mkdir(parents=True)
        splits = {}
        for name in ("train", "val"):
            content = json.loads(tiny_dataset.annotations.read_text())
            if name == "train":
                change(content)
            (raw / f"{name}.json").write_text(json.dumps(content))
            shutil.copytree(tiny_dataset.images, raw / name)
            for path in (raw / name).iterdir():  # the same pixels, other bytes in each split
                path.write_bytes(path.read_bytes() + name.encode())
            splits[name] = manifest.SplitPaths(raw / f"{name}.json", raw / name)
        content = manifest.build("tiny", "directory", splits, base=raw)
        (raw / "manifest.json").write_text(json.dumps(content))
        return raw

    return fill


def policy(params: Params, name: str) -> Params:
    return dataclasses.replace(params, prepare=dataclasses.replace(params.prepare, policy=name))


def prepared(name: str = "dataset.json") -> Any:
    return json.loads((Path("data/prepared") / name).read_text())


def spoil(content: dict[str, Any]) -> None:
    """An annotation of each kind of fault, and an image of another size."""
    first = content["annotations"][0]
    changes = [{"image_id": 99}, {"category_id": 2}, {"bbox": [0, 0, 0, 0], "category_id": 7}]
    changes += [{"id": first["id"], "image_id": 4}]  # no two of the same
    changes += [{"segmentation": [[1, 2]]}, {"segmentation": {"size": [64, 96], "counts": [7]}}]
    content["annotations"] += [
        {**first, "id": 100 + number, **change} for number, change in enumerate(changes)
    ]
    content["images"][1]["width"] = 95


def test_leaves_a_sheet_of_pictures_for_each_split(
    params: Params, acquired: Callable[..., Path]
) -> None:
    acquired()
    prepare.run(params)
    for split in ("train", "val"):
        with Image.open(f"data/prepared/sheets/{split}.jpg") as sheet:
            pixels = np.asarray(sheet)
        assert pixels.std() > 10  # images on it


def test_counts_what_is_there(params: Params, acquired: Callable[..., Path]) -> None:
    acquired()
    prepare.run(params)
    found = prepared()
    assert found["categories"] == [{"id": 1, "name": "square"}, {"id": 7, "name": "slab"}]
    assert found["splits"]["train"] == {
        "images": 4,
        "objects": 3,
        "masks": 3,
        "crowds": 1,
        "empty_images": 2,
        "refused": 0,
        "sizes": {"small": 1, "medium": 2, "large": 0},  # areas 400, 1024, 2000
        "per_category": {"square": 2, "slab": 1},
        "objects_per_image": {"0": 2, "1": 1, "2": 1},
    }
    assert prepared("faults.json") == {"train": [], "val": []}
    assert len(prepared("val/annotations.json")["annotations"]) == 4
    with Path("data/prepared/plots/class_counts.csv").open() as file:
        assert list(csv.DictReader(file))[1] == {"class": "slab", "train": "1", "val": "1"}
    with Path("data/prepared/plots/object_sizes.csv").open() as file:
        sides = {row["side"]: row["val"] for row in csv.DictReader(file)}
    assert (sides["16 to 32"], sides["32 to 64"]) == ("1", "2")
    assert prepare.summary().row_count == 10
    assert [path.name for path in Path("data").iterdir() if path.name.startswith(".")] == []


def test_the_index_follows_its_images(
    params: Params, acquired: Callable[..., Path], tmp_path: Path
) -> None:
    from condinst.data.index import open_index

    acquired()
    prepare.run(params)
    Path("data").rename("moved")
    record = open_index("moved/prepared/train")[1]
    assert record["file_name"] == str(tmp_path / "moved/raw/train/000002.jpg")
    assert Path(record["file_name"]).is_file()


def test_the_hash_is_of_the_content_alone(params: Params, acquired: Callable[..., Path]) -> None:
    raw = acquired()
    prepare.run(params)
    first = prepared()["hash"]
    prepare.run(params)
    assert prepared()["hash"] == first
    shutil.rmtree(raw)
    acquired(lambda content: content["annotations"].pop(0))
    prepare.run(params)
    assert prepared()["hash"] != first


def test_drop_lists_what_it_leaves_out(params: Params, acquired: Callable[..., Path]) -> None:
    acquired(spoil)
    prepare.run(policy(params, "drop"))
    faults = prepared("faults.json")["train"]
    # 2 and 3 lie on the image of another size; 1 is the id used twice
    annotations = [100, 101, 102, 1, 104, 105, 2, 3]
    assert {(entry["entry"], entry["id"]) for entry in faults} == {
        ("image", 2), *(("annotation", number) for number in annotations)
    }  # fmt: skip
    assert all(entry["reason"] and entry["action"] == "dropped" for entry in faults)
    train = prepared()["splits"]["train"]
    assert (train["images"], train["objects"], train["refused"]) == (3, 1, 9)
    assert prepared()["splits"]["val"]["refused"] == 0


def test_repair_mends_what_has_one_right_answer(
    params: Params, acquired: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    acquired(spoil)
    prepare.run(policy(params, "repair"))
    actions = {entry["kind"]: entry["action"] for entry in prepared("faults.json")["train"]}
    assert actions == {
        "image of another size": "repaired",
        "image unknown": "dropped",
        "category unknown": "dropped",
        "box of no size": "repaired",
        "annotations share an id": "repaired",
        "polygon unusable": "dropped",
        "RLE corrupt": "dropped",
    }
    kept = prepared("train/annotations.json")
    assert kept["images"][1]["width"] == 96
    boxes = {entry["id"]: entry["bbox"] for entry in kept["annotations"]}
    assert boxes[102] == [8, 8, 32, 32]
    assert len(boxes) == len(kept["annotations"]) == 6
    assert "box of no size" in capsys.readouterr().out


def share(raw: Path, *numbers: int) -> None:
    for number in numbers:
        shutil.copy(raw / "val/000001.jpg", raw / f"train/{number:06d}.jpg")
    content = json.loads((raw / "manifest.json").read_text())
    same = content["files"]["val/000001.jpg"]
    content["files"] |= {f"train/{number:06d}.jpg": same for number in numbers}
    (raw / "manifest.json").write_text(json.dumps(content))


def test_pictures_of_val_are_left_out_of_train(
    params: Params, acquired: Callable[..., Path]
) -> None:
    raw = acquired()
    share(raw, 2)
    with pytest.raises(UserError, match=r"image 2: val has the same image, as 000001.jpg"):
        prepare.run(policy(params, "strict"))
    prepare.run(policy(params, "drop"))
    splits = prepared()["splits"]
    assert (splits["train"]["images"], splits["train"]["objects"]) == (3, 1)
    assert (splits["val"]["images"], splits["train"]["refused"]) == (4, 3)
    share(raw, 1, 2, 3, 4)
    with pytest.raises(UserError, match="every image of train is one of val too"):
        prepare.run(policy(params, "drop"))


def test_strict_reports_all_faults_at_once(params: Params, acquired: Callable[..., Path]) -> None:
    raw = acquired(spoil)
    content = json.loads((raw / "manifest.json").read_text())
    (raw / "val/000003.jpg").write_bytes(b"no image")
    content["files"]["val/000003.jpg"]["bytes"] = len(b"no image")
    del content["files"]["val/000002.jpg"]
    (raw / "val/000002.jpg").unlink()
    (raw / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="has 12 faults") as caught:
        prepare.run(policy(params, "strict"))
    for part in (
        "1 x image of another size: image 2: it is 96 x 64, the annotations say 95 x 64",
        "1 x box of no size: annotation 102: its bbox",
        "image missing: image 2: there is no file data/raw/val/000002.jpg",
        "image unreadable: image 3: data/raw/val/000003.jpg does not decode",
        "3 x image left out: annotation 2, 3, 4: its image 2 is left out",
        "All are listed in data/faults.json",
    ):
        assert part in str(caught.value)
    assert not Path("data/prepared").exists()
    listed = json.loads(Path("data/faults.json").read_text())
    assert (len(listed["train"]), len(listed["val"])) == (7, 5)


@pytest.mark.parametrize("name", ["strict", "drop"])
def test_pictures_that_changed_since_are_named(
    params: Params, acquired: Callable[..., Path], name: str
) -> None:
    raw = acquired()
    broken = raw / "val/000003.jpg"
    content = broken.read_bytes()
    broken.write_bytes(content[:300] + bytes(len(content) - 300))
    (raw / "val/000001.jpg").unlink()
    Image.new("RGB", (96, 64)).save(raw / "val/000002.jpg")
    with pytest.raises(UserError, match="2 images of val are not as they were") as caught:
        prepare.run(policy(params, name))
    for part in ("000001.jpg is missing", "000002.jpg has changed", "000003.jpg does not decode"):
        assert part in str(caught.value)
    assert not Path("data/prepared").exists()


def test_a_fault_leaves_the_former_result(params: Params, acquired: Callable[..., Path]) -> None:
    raw = acquired()
    prepare.run(params)
    former = prepared()
    (raw / "train/000001.jpg").write_bytes(b"no image")
    with pytest.raises(UserError):
        prepare.run(params)
    assert prepared() == former


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["categories"][0].update(name="slab"), "different categories"),
        (lambda content: content["categories"].pop(), "different categories"),
        (lambda content: content["images"].clear(), "lists no image"),
        (lambda content: content["annotations"].clear(), "no image of train has an object"),
    ],
)
def test_names_splits_that_do_not_fit(
    params: Params, acquired: Callable[..., Path], change: Change, reason: str
) -> None:
    def run() -> None:
        acquired(change)
        prepare.run(params)

    with pytest.raises(UserError, match=reason):
        run()


def test_a_full_disk(
    params: Params, acquired: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired()
    usage = SimpleNamespace(total=10**9, used=10**9, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="the index needs"):
        prepare.run(params)
    assert not Path("data/prepared").exists()


def test_names_the_stage_to_run_first(params: Params, acquired: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"cli.py acquire"):
        prepare.run(params)
    with pytest.raises(UserError, match=r"cli.py prepare"):
        prepare.summary()
    (acquired() / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        prepare.run(params)


@pytest.mark.slow
def test_reads_real_coco(params: Params, shared_dir: Path) -> None:
    from pipeline.acquire import stage as acquire

    root = str(shared_dir / "data/coco_mini")
    dataset = dataclasses.replace(params.dataset, source="directory", root=root, sample=None)
    changed = policy(dataclasses.replace(params, dataset=dataset), "strict")
    acquire.run(changed)
    prepare.run(changed)
    splits = prepared()["splits"]
    assert (splits["train"]["images"], splits["val"]["images"]) == (343, 206)
    assert splits["train"]["objects"] + splits["train"]["crowds"] == 2974
    assert splits["val"]["objects"] + splits["val"]["crowds"] == 1786


def test_objects_with_only_a_box_are_counted(params: Params, acquired: Callable[..., Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["annotations"][0]["segmentation"]
        content["annotations"][1]["segmentation"] = []

    acquired(change)
    prepare.run(policy(params, "strict"))
    split = prepared()["splits"]["train"]
    assert (split["objects"], split["masks"], split["refused"]) == (3, 1, 0)


def test_boxes_alone_are_enough(params: Params, acquired: Callable[..., Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            entry.pop("segmentation")
            entry["iscrowd"] = 0

    acquired(change)
    prepare.run(policy(params, "strict"))
    split = prepared()["splits"]["train"]
    assert (split["objects"], split["masks"], split["refused"]) == (4, 0, 0)
