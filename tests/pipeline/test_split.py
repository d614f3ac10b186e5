"""One JSON parted into halves: entries of one image stay together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.errors import UserError
from pipeline.acquire.manifest import SplitPaths
from pipeline.acquire.split import part
from pipeline.params import RandomSplit

TOGETHER = ({1, 2}, {3, 4}, {5, 6})  # by content, by file in two writings, by id


@pytest.fixture
def whole(tmp_path: Path) -> SplitPaths:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(1, 11):
        noise = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    shutil.copy(folder / "1.png", folder / "2.png")
    names = {4: ".\\3.PNG", 6: "5.png"}
    images = [
        {"id": 5 if k == 6 else k, "file_name": names.get(k, f"{k}.png"), "width": 8, "height": 8}
        for k in range(1, 11)
    ]
    annotations = [{"id": k, "image_id": image["id"]} for k, image in enumerate(images, 1)]
    path = tmp_path / "all.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1}]})
    )
    return SplitPaths(path, folder)


@pytest.mark.parametrize("seed", range(6))
def test_copies_of_a_picture_stay_in_one_half(whole: SplitPaths, tmp_path: Path, seed: int) -> None:
    parted = RandomSplit(json="all.json", images="pictures", val_share=0.4, seed=seed)
    halves = {
        name: json.loads(paths.annotations.read_text())
        for name, paths in part(parted, whole, tmp_path).items()
    }
    found = {name: {e["id"] for e in half["annotations"]} for name, half in halves.items()}
    assert found["train"] | found["val"] == set(range(1, 11))
    assert not found["train"] & found["val"]
    for alike in TOGETHER:
        assert alike <= found["train"] or alike <= found["val"]
    pictures = [min([k, *(min(alike) for alike in TOGETHER if k in alike)]) for k in found["val"]]
    assert len(set(pictures)) == 3  # 0.4 of 7 images


def test_copies_alone_cannot_be_parted(whole: SplitPaths, tmp_path: Path) -> None:
    content = json.loads(whole.annotations.read_text())
    content["images"] = content["images"][:2]
    whole.annotations.write_text(json.dumps(content))
    parted = RandomSplit(json="all.json", images="pictures", val_share=0.5, seed=0)
    with pytest.raises(UserError, match="both splits need at least one"):
        part(parted, whole, tmp_path)
