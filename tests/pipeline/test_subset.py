"""A part of COCO 2017, fetched image by image from a host of this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from condinst.download import http
from condinst.errors import UserError
from pipeline.acquire import coco2017, subset
from pipeline.acquire import stage as acquire
from pipeline.acquire.changes import changed_files
from pipeline.params import Subset
from tests.condinst.download.faulty_host import Host
from tests.pipeline.test_download import zipped

if TYPE_CHECKING:
    from pipeline.params import Params

IDS = (30, 12, 7, 25)
CATEGORIES = [{"id": 1, "name": "square"}]


def jpeg(number: int) -> bytes:
    Image.new("RGB", (40 + number, 20), (number, 0, 0)).save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


def name_of(number: int) -> str:
    return f"{number:012d}.jpg"


@pytest.fixture
def host(host: Host) -> Host:
    """Serves single images too."""
    for split in ("train", "val"):
        for number in IDS:
            host.files[f"/{split}2017/{name_of(number)}"] = jpeg(number)
    return host


@pytest.fixture
def archives(host: Host, tmp_path: Path) -> tuple[coco2017.Archive, ...]:
    images = [{"id": n, "file_name": name_of(n), "width": 40 + n, "height": 20} for n in IDS]
    box = {"category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    box["segmentation"] = [[1, 1, 10, 1, 10, 10, 1, 10]]
    notes = [box | {"id": k, "image_id": n} for k, n in enumerate((*IDS, 7), 1)]
    text = json.dumps({"images": images, "annotations": notes, "categories": CATEGORIES}).encode()
    jsons = {f"annotations/instances_{split}2017.json": text for split in ("train", "val")}
    found = []
    for path, members, counts in (
        ("annotations/annotations.zip", jsons, dict.fromkeys(jsons, 5)),
        ("zips/val2017.zip", {f"val2017/{name_of(n)}": jpeg(n) for n in IDS}, {"val2017": 4}),
        ("zips/train2017.zip", {}, {"train2017": 4}),
    ):
        content = zipped(tmp_path / "made.zip", members)
        host.files[f"/{path}"] = content
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        taken = tuple(jsons) if members is jsons else None
        found.append(coco2017.Archive(path, len(content), md5, 9000, counts, taken))
    (tmp_path / "made.zip").unlink()
    return tuple(found)


def get(tmp_path: Path, host: Host | Path, archives: Any, **wanted: Any) -> dict[str, list[int]]:
    """Fetches, checks every file, and gives the ids of each split."""
    folder = tmp_path / "raw"
    folder.mkdir(exist_ok=True)
    mirror = str(host) if isinstance(host, Path) else host.url
    patience = http.Patience(first_wait=0, attempts=3, window=0.2)
    splits, _ = subset.fetch(
        tmp_path / "coco", mirror, Subset(**wanted), folder, archives=archives, patience=patience
    )
    ids = {}
    for name, paths in splits.items():
        content = json.loads(paths.annotations.read_text())
        ids[name] = [image["id"] for image in content["images"]]
        assert content["categories"] == CATEGORIES
        kept = [entry["image_id"] for entry in content["annotations"]]
        assert sorted(kept) == sorted(n for n in (*IDS, 7) if n in ids[name])
        for image in content["images"]:
            assert (paths.images / image["file_name"]).read_bytes() == jpeg(image["id"])
    return ids


def test_so_many_images_by_id(tmp_path: Path, host: Host, archives: Any) -> None:
    assert get(tmp_path, host, archives, train=3, val=1) == {"train": [7, 12, 25], "val": [7]}
    asked = len(host.asked)
    assert asked == 1 + 3 + 1, "the annotations, and each image once"
    assert get(tmp_path, host, archives, train=3, val=1)["val"] == [7]
    assert len(host.asked) == asked, "what is there is not fetched again"
    assert get(tmp_path, host, archives, train=4, val=1)["train"] == [7, 12, 25, 30]
    assert len(host.asked) == asked + 1
    files = [path.name for path in (tmp_path / "coco/subset").rglob("*") if path.is_file()]
    assert len(files) == 5
    assert not [name for name in files if name.endswith(".part")]


def test_by_seed_more_images_include_the_fewer(tmp_path: Path, host: Host, archives: Any) -> None:
    drawn = set()
    for seed in range(6):
        wanted = {"order": "seed", "seed": seed, "train": 0}
        one = get(tmp_path, host, archives, val=1, **wanted)["val"]
        two = get(tmp_path, host, archives, val=2, **wanted)["val"]
        assert set(one) < set(two)
        assert two == sorted(two)
        drawn.add(tuple(two))
    assert len(drawn) > 1


def test_val_alone(tmp_path: Path, host: Host, archives: Any) -> None:
    assert get(tmp_path, host, archives, train=0) == {"val": list(IDS)}
    assert (tmp_path / "coco/val2017").is_dir()
    assert not (tmp_path / "coco/train2017").exists()
    assert len(host.asked) == 2, "two archives"
    assert get(tmp_path, host, archives, train=0, val=2) == {"val": [7, 12]}
    assert len(host.asked) == 2, "the images are there"
    with pytest.raises(UserError, match=r"dataset.subset.val: is 5, COCO has 4; null takes all"):
        get(tmp_path, host, archives, train=0, val=5)


def test_from_a_folder(tmp_path: Path, host: Host, archives: Any) -> None:
    mirror = tmp_path / "mirror"
    for item in archives[:2]:
        (mirror / item.path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / item.path).write_bytes(host.files[f"/{item.path}"])
    assert get(tmp_path, mirror, archives, train=0, val=3) == {"val": [7, 12, 25]}
    with pytest.raises(UserError, match=r"neither all of train2017/ nor zips/train2017.zip"):
        get(tmp_path, mirror, archives, train=1, val=1)
    assert host.asked == []


def annotated(tmp_path: Path, host: Host, archives: Any) -> None:
    """Leaves one image and the annotations, so that faults meet the other images alone."""
    get(tmp_path, host, archives, train=0, val=1)
    host.asked.clear()


def test_busy_and_moved_hosts(tmp_path: Path, host: Host, archives: Any) -> None:
    annotated(tmp_path, host, archives)
    host.failures = 2
    assert get(tmp_path, host, archives, train=0, val=2) == {"val": [7, 12]}
    assert len(host.asked) == 3


def test_cut_connections_and_damaged_images(tmp_path: Path, host: Host, archives: Any) -> None:
    annotated(tmp_path, host, archives)
    host.cut = 400
    with pytest.raises(UserError, match=r"gave up after 3 attempts .*run it again to resume"):
        get(tmp_path, host, archives, train=0, val=2)
    host.cut = None
    good = host.files[f"/val2017/{name_of(12)}"]
    for wrong, message in (
        (good[:500], r"12.jpg: what arrived is not a complete image .*, twice"),
        (b"<html>", "what arrived is not a complete image"),
        (jpeg(13), r"has 53 x 20 pixels, the annotations say 52 x 20, twice"),
    ):
        host.files[f"/val2017/{name_of(12)}"] = wrong
        host.asked.clear()
        with pytest.raises(UserError, match=message):
            get(tmp_path, host, archives, train=0, val=2)
        assert len(host.asked) == 2
    del host.files[f"/val2017/{name_of(12)}"]
    with pytest.raises(UserError, match=r"000012.jpg: the server answers 404 .*dataset.mirror"):
        get(tmp_path, host, archives, train=0, val=4)
    host.files[f"/val2017/{name_of(12)}"] = good
    assert get(tmp_path, host, archives, train=0, val=4)["val"] == sorted(IDS)


def test_a_slow_host_is_given_up(tmp_path: Path, host: Host, archives: Any) -> None:
    annotated(tmp_path, host, archives)
    host.drip = 0.005
    with pytest.raises(UserError, match=r"gave up after 3 attempts .*bytes a second"):
        get(tmp_path, host, archives, train=0, val=2)


def test_the_stages_take_val_alone(
    params: Params, host: Host, archives: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.prepare import show
    from pipeline.prepare import stage as prepare
    from pipeline.train import stage as train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subset.fetch, "__kwdefaults__", {"archives": archives, "patience": None})
    dataset = dataclasses.replace(
        params.dataset,
        source="coco2017",
        sample=None,
        mirror=host.url,
        subset=Subset(train=0, val=3),
    )
    wanted = dataclasses.replace(params, dataset=dataset)
    acquire.run(wanted)
    prepare.run(wanted)
    found = json.loads(Path("data/prepared/dataset.json").read_text())
    assert list(found["splits"]) == ["val"]
    assert [path.name for path in show.write_sheets(images=2, seed=0)] == ["val.jpg"]
    with pytest.raises(UserError, match=r"no images to train on: dataset.subset.train is 0"):
        train.run(wanted)
    assert found["splits"]["val"]["images"] == 3
    assert changed_files(Path("data/raw")) == []
    source = Path("data/coco2017/annotations/instances_val2017.json").resolve()
    source.write_text("{}")
    assert changed_files(Path("data/raw")) == [source]
