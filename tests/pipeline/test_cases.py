"""Small data sets of the kinds that public bug reports and exports of real tools describe."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from condinst.errors import UserError
from pipeline.acquire import stage as acquire
from pipeline.params import as_dict, load_params
from pipeline.prepare import stage as prepare
from tests.pipeline.small import shrink

if TYPE_CHECKING:
    from pipeline.params import Params

Record = dict[str, Any]
Run = Callable[..., Record]

SQUARE = [[10, 10, 40, 10, 40, 40, 10, 40]]
BOX = [10, 10, 30, 30]


@pytest.fixture
def cases(shared_dir: Path) -> Path:
    """The folder of such data sets; see `shared_dir`."""
    return shared_dir / "cases"


@pytest.fixture
def run(cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Acquires and prepares one of them in a folder of its own; gives the content of train."""

    def run(name: str, policy: str = "repair", **dataset: Any) -> Record:
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(cases / name, folder)
        monkeypatch.chdir(folder)
        params = load_params(folder / "params.yaml")
        params = with_policy(params, policy, **dataset)
        acquire.run(params)
        prepare.run(params)
        return content("train")

    return run


def with_policy(params: Params, policy: str, **dataset: Any) -> Params:
    return dataclasses.replace(
        params,
        prepare=dataclasses.replace(params.prepare, policy=policy),
        dataset=dataclasses.replace(params.dataset, **dataset),
    )


def content(split: str) -> Record:
    return json.loads(Path(f"data/prepared/{split}/annotations.json").read_text())


def summary() -> Record:
    return json.loads(Path("data/prepared/dataset.json").read_text())


def kinds(split: str = "train") -> set[str]:
    return {
        fault["kind"] for fault in json.loads(Path("data/prepared/faults.json").read_text())[split]
    }


def test_normalised_coordinates(run: Run) -> None:
    with pytest.raises(UserError, match=r"outline normalised: .* 4 of 4 annotations \(100%\)"):
        run("normalised_coordinates", "strict")
    found = run("normalised_coordinates")
    assert len(found["annotations"]) == 4
    for entry in found["annotations"]:
        assert entry["segmentation"][0] == pytest.approx(SQUARE[0])
        assert entry["bbox"] == pytest.approx(BOX)
        assert entry["area"] == 900


def test_masks_with_one_right_answer(run: Run) -> None:
    found = run("masks_with_one_right_answer")
    assert len(found["annotations"]) == 4
    assert kinds() == {"mask notation"}


def test_crowd_masks_of_cvat(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("crowd_masks_of_cvat", "strict")
    assert [entry["iscrowd"] for entry in found["annotations"]] == [1, 1, 1, 0]
    said = " ".join(capsys.readouterr().out.split())
    assert "train: 3 of 4 annotations are crowd regions (iscrowd: 1)" in said
    assert "set dataset.crowd: objects" in said
    found = run("crowd_masks_of_cvat", "strict", crowd="objects")
    assert [entry["iscrowd"] for entry in found["annotations"]] == [0] * 4
    assert summary()["splits"]["train"]["objects"] == 4
    assert not any("crowd" in remark for remark in summary()["remarks"])


def test_deep_pictures(run: Run) -> None:
    from condinst.data.images import read_oriented
    from condinst.data.index import open_index
    from pipeline.predict.media import read_image
    from pipeline.recipe import PreparedData

    run("deep_pictures", "strict")
    index = open_index("data/prepared/train")
    ranges = PreparedData.load(Path("data/prepared")).ranges
    assert index.ranges == ranges == summary()["ranges"]
    assert ranges.keys() == {"int16", "int32", "float"}
    assert (ranges["int16"], ranges["float"]) == ([0, 4096], [0, 1])
    for record in index:
        size = record["height"], record["width"]
        pixels = read_oriented(record["file_name"], size, "RGB", ranges)
        assert pixels.max() > 100
        assert (read_image(Path(record["file_name"]), ranges) == pixels).all()
    assert any(remark.startswith("16-bit images: 0 to 4096") for remark in summary()["remarks"])


def test_exif_orientation_text(run: Run) -> None:
    from condinst.data.images import read_oriented
    from condinst.data.index import open_index

    found = run("exif_orientation_text", "strict")
    assert len(found["images"]) == 4
    for record in open_index("data/prepared/train"):
        assert read_oriented(record["file_name"]).shape == (64, 96, 3)


def test_objects_twice(run: Run) -> None:
    with pytest.raises(UserError, match=r"4 x object listed twice"):
        run("objects_twice", "strict")
    for policy in ("repair", "drop"):
        found = run("objects_twice", policy)
        assert [entry["id"] for entry in found["annotations"]] == [1, 2, 3, 4]
        assert [entry["id"] for entry in content("val")["annotations"]] == [1]


def test_names_with_backslash(run: Run) -> None:
    with pytest.raises(UserError, match=r"4 x file_name in another writing"):
        run("names_with_backslash", "strict")
    found = run("names_with_backslash", "drop")
    assert [image["file_name"] for image in found["images"]] == [
        f"sub/{k}.jpg" for k in (1, 2, 3, 4)
    ]
    assert kinds() == {"file_name in another writing"}


def test_class_in_val_alone(run: Run) -> None:
    run("class_in_val_alone", "strict")
    (remark,) = summary()["remarks"]
    assert remark.startswith("val has objects of 1 class that train has none of: dog (1)")


def test_policy_not_for_other_formats(
    cases: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.params import Split

    shutil.copytree(cases / "policy_not_for_other_formats", tmp_path / "data_of_case")
    monkeypatch.chdir(tmp_path / "data_of_case")
    halves = {
        name: Split(format="yolo-seg", images=f"images/{name}", names="data.yaml")
        for name in ("train", "val")
    }
    wanted = with_policy(params, "repair", source="directory", sample=None, **halves)
    acquire.run(wanted)
    prepare.run(wanted)
    assert len(content("train")["annotations"]) == 2  # the line of class 0.0 says the same again
    assert kinds() == {"label unusable", "label in another writing", "object listed twice"}
    with pytest.raises(UserError, match="1 x label unusable"):
        prepare.run(with_policy(wanted, "strict"))


@pytest.mark.slow
def test_class_name_in_mlflow(run: Run, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import tracking
    from pipeline.tracking.provenance import flatten
    from pipeline.train import stage as train

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run("class_name_in_mlflow")
    Path("configs").symlink_to(repository / "configs")
    params = load_params(Path("params.yaml"))
    assert params.dataset.classes == {"car (red)": "car"}
    params = shrink(params, steps=2)
    train.run(params)
    store = tracking.connect(params.tracking)
    assert store is not None
    run_id = json.loads(Path("outputs/train/run.json").read_text())["run_id"]
    found = store.client.get_run(run_id).data
    assert found.params["dataset.classes.car _red_"] == "car"
    assert "dataset.classes.car (red)" in flatten(as_dict(params))
    assert found.params["train.steps"] == "2"
    assert len(found.params) > 100  # more than go with one request
    assert "total_loss" in found.metrics
