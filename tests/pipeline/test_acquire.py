from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from condinst.errors import UserError
from pipeline.acquire import stage as acquire
from pipeline.acquire.changes import changed_files, check
from pipeline.params import Split

if TYPE_CHECKING:
    from pipeline.params import Params


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def manifest() -> dict[str, Any]:
    return json.loads(Path("data/raw/manifest.json").read_text())


def coco_folder(tiny: Any, root: Path, *, year: str = "2017") -> Path:
    (root / "annotations").mkdir(parents=True)
    for name in ("train", "val"):
        shutil.copy(tiny.annotations, root / f"annotations/instances_{name}{year}.json")
        shutil.copytree(tiny.images, root / f"{name}{year}")
    return root


def from_directory(params: Params, **values: Any) -> Params:
    dataset = dataclasses.replace(params.dataset, source="directory", sample=None, **values)
    return dataclasses.replace(params, dataset=dataset)


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_draws_the_sample_the_same_each_time(tiny_params: Params) -> None:
    acquire.run(tiny_params)
    first = manifest()
    assert len(first["files"]) == 8 + 4 + 2
    assert first["splits"]["val"] == {
        "annotations": "annotations/instances_val.json",
        "images": "val",
    }
    for name, entry in first["files"].items():
        content = (Path("data/raw") / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    acquire.run(tiny_params)
    assert manifest() == first
    assert only(Path("data")) == ["raw"]


@pytest.mark.parametrize("year", ["2017", ""])
def test_links_a_folder(params: Params, tiny_dataset: Any, tmp_path: Path, year: str) -> None:
    root = coco_folder(tiny_dataset, tmp_path / "coco", year=year)
    acquire.run(from_directory(params, root="coco", name="mine"))
    assert only(Path("data/raw")) == ["manifest.json"]
    found = manifest()
    assert (found["name"], found["source"]) == ("mine", "directory")
    assert found["splits"]["train"]["images"] == str(root / f"train{year}")
    assert str(root / f"val{year}/000004.jpg") in found["files"]
    assert len(found["files"]) == 10


def test_links_any_files(params: Params, tiny_dataset: Any) -> None:
    split = Split(json=str(tiny_dataset.annotations), images=str(tiny_dataset.images))
    acquire.run(from_directory(params, train=split, val=split))
    assert len(manifest()["files"]) == 5
    nowhere = Split(json="none.json", images="nowhere")
    with pytest.raises(UserError, match=r"(?s)val.json: .*none.json.*val.images: .*nowhere"):
        acquire.run(from_directory(params, train=split, val=nowhere))
    assert len(manifest()["files"]) == 5, "the former data stays"


def test_leaves_single_missing_pictures_to_prepare(
    params: Params, tiny_dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco_folder(tiny_dataset, tmp_path / "coco")
    (root / "train2017/000002.jpg").unlink()
    acquire.run(from_directory(params, root=str(root)))
    assert "1 of the 4 images" in capsys.readouterr().out
    assert str(root / "train2017/000002.jpg") not in manifest()["files"]
    assert len(manifest()["files"]) == 9


def test_names_what_a_folder_lacks(params: Params, tiny_dataset: Any, tmp_path: Path) -> None:
    root = coco_folder(tiny_dataset, tmp_path / "coco")
    for path in (root / "train2017").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"(?s)4 of the 4 images.*train2017/000002.jpg.*right fold"):
        acquire.run(from_directory(params, root=str(root)))
    shutil.rmtree(root / "val2017")
    with pytest.raises(UserError, match="no images of val: none of val2017, val, images/val2017"):
        acquire.run(from_directory(params, root=str(root)))
    (root / "annotations/instances_train2017.json").unlink()
    with pytest.raises(UserError, match="no annotations of train: none of annotations/instances"):
        acquire.run(from_directory(params, root=str(root)))
    with pytest.raises(UserError, match=r"the folder .* does not exist"):
        acquire.run(from_directory(params, root="nowhere"))
    assert only(Path("data")) == [], "nothing half-written"


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [{}]}', '{"images": []}'])
def test_names_a_json_that_cannot_be_read(
    params: Params, tiny_dataset: Any, tmp_path: Path, text: str
) -> None:
    root = coco_folder(tiny_dataset, tmp_path / "coco")
    path = root / "annotations/instances_val2017.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"instances_val2017.json"):
        acquire.run(from_directory(params, root=str(root)))


def test_a_full_disk_is_named_before_anything_is_written(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=10**9, used=10**9 - 1000, free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs 480 kB in .*where 1.0 kB are free"):
        acquire.run(tiny_params)
    assert only(Path("data")) == []


def test_a_disk_that_fills_on_the_way_leaves_nothing(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.acquire.sample.write_sample", fail)
    with pytest.raises(UserError, match="No space left on device"):
        acquire.run(tiny_params)
    assert only(Path("data")) == []


def test_names_linked_files_that_changed(params: Params, tiny_dataset: Any, tmp_path: Path) -> None:
    root = coco_folder(tiny_dataset, tmp_path / "coco")
    acquire.run(from_directory(params, root=str(root)))
    raw = Path("data/raw")
    assert "no file has changed since it was read" in check(raw)
    picture = next((root / "val2017").iterdir())
    later = (raw / "manifest.json").stat().st_mtime + 10
    os.utime(picture, (later, later))
    assert changed_files(raw) == []  # touched, but of the same content
    annotations = root / "annotations/instances_train2017.json"
    content = annotations.read_bytes()
    annotations.write_bytes(content.replace(b"0", b"1", 1))
    os.utime(annotations, (later, later))
    picture.unlink()
    assert set(changed_files(raw)) == {picture, annotations}
    with pytest.raises(UserError, match="2 files changed since acquire read them"):
        check(raw)


def test_without_a_manifest_or_with_a_drawn_one_nothing_changed(tiny_params: Params) -> None:
    assert changed_files(Path("data/raw")) == []
    acquire.run(tiny_params)
    shutil.rmtree("data/raw/val")
    assert changed_files(Path("data/raw")) == []  # DVC watches these itself


def test_reads_no_picture_outside_of_the_folder(
    params: Params, tiny_dataset: Any, tmp_path: Path
) -> None:
    root = coco_folder(tiny_dataset, tmp_path / "coco")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "../secret.jpg"
    path.write_text(json.dumps(content))
    (root / "secret.jpg").write_bytes(b"secret")
    acquire.run(from_directory(params, root=str(root)))
    assert not any("secret" in name for name in manifest()["files"])
    for image in content["images"]:
        image["file_name"] = "../secret.jpg"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"leads out of the image folder, such as '\.\./secret"):
        acquire.run(from_directory(params, root=str(root)))
