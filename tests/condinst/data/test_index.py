from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_tools

from condinst.annotations.building import build_index
from condinst.annotations.gathering import IndexReport
from condinst.data.index import open_index
from condinst.data.registration import register_index
from condinst.errors import UserError


def test_gives_back_what_the_json_holds(tiny_dataset: Any, tmp_path: Path) -> None:
    report = build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path / "index")
    assert report == IndexReport(images=4, objects=3, crowds=1, bytes=report.bytes)
    index = open_index(tmp_path / "index")
    assert len(index) == 4
    assert index.objects.tolist() == [1, 2, 0, 0]
    second = index[1]
    assert second["file_name"] == str(tiny_dataset.images.resolve() / "000002.jpg")
    assert (second["image_id"], second["height"], second["width"]) == (2, 64, 96)
    slab, square = second["annotations"]
    assert (slab["category_id"], square["category_id"]) == (1, 0)  # ids 7 and 1
    assert slab["bbox"] == [30, 10, 50, 40]
    assert slab["bbox_mode"] == BoxMode.XYWH_ABS
    assert [part.tolist() for part in slab["segmentation"]] == [[30, 10, 80, 10, 80, 50, 30, 50]]
    (crowd,) = index[2]["annotations"]
    assert crowd["iscrowd"] == 1
    columns = np.flatnonzero(mask_tools.decode(crowd["segmentation"]).all(0))
    assert (columns[0], columns[-1], len(columns)) == (10, 29, 20)
    assert index[-1] == index[3]
    assert index[3]["annotations"] == []
    with pytest.raises(IndexError):
        index[4]
    assert len(list(index)) == 4
    assert json.loads((tmp_path / "index/annotations.json").read_text()) == tiny_dataset.content


def test_another_process_maps_the_files_itself(tiny_dataset: Any, tmp_path: Path) -> None:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path)
    sent = pickle.dumps(open_index(tmp_path))
    assert len(sent) < 500
    assert len(pickle.loads(sent)) == 4


def test_moves_with_its_images(
    tiny_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(tiny_dataset.images, here / "images")
    monkeypatch.chdir(here)
    build_index(tiny_dataset.annotations, "images", "prepared/index")
    here.rename(there)
    assert Path(open_index(there / "prepared/index")[0]["file_name"]).is_file()


def test_holds_nothing(tmp_path: Path) -> None:
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    assert build_index(content, tmp_path, tmp_path / "index").images == 0
    assert len(open_index(tmp_path / "index")) == 0


def test_registers_twice_under_one_name(tiny_dataset: Any, tmp_path: Path) -> None:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path)
    for _ in range(2):
        register_index("test_of_an_index", tmp_path)
    assert len(DatasetCatalog.get("test_of_an_index")) == 4
    meta = MetadataCatalog.get("test_of_an_index")
    assert meta.thing_classes == ["square", "slab"]
    assert meta.thing_dataset_id_to_contiguous_id == {1: 0, 7: 1}
    assert meta.json_file == str(tmp_path.resolve() / "annotations.json")
    DatasetCatalog.remove("test_of_an_index")
    MetadataCatalog.remove("test_of_an_index")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "missing"),
        ("{", "is cut off"),
        ("[]", "no list images, annotations, categories"),
        ('{"images": [], "annotations": []}', "no list categories"),
    ],
)
def test_names_a_json_that_cannot_be_read(text: str | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=reason):
        build_index(path, tmp_path, tmp_path / "index")


def test_an_index_that_was_interrupted_does_not_open(tiny_dataset: Any, tmp_path: Path) -> None:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path)
    (tmp_path / "points.npy").unlink()
    with pytest.raises(UserError, match=r"cli.py prepare"):
        open_index(tmp_path)
    with pytest.raises(UserError, match=r"cli.py prepare"):
        open_index(tmp_path / "nowhere")
