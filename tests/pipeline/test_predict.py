from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from condinst.errors import UserError
from pipeline.predict import stage as predict
from pipeline.predict.media import VideoSink, find_media
from pipeline.predict.predictions import Categories, PredictionSink
from pipeline.predict.stage import _categories, _predict_all, run_predict
from tests.condinst.inference.toy import toy_cfg


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, size in (("a.jpg", (40, 30)), ("b.png", (24, 48)), ("more/a.jpg", (16, 16))):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[:, : size[0] // 2] = 220
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a training leaves it, of the toy model, beside which predict runs."""
    from condinst import config
    from condinst.inference.predictor import Predictor

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/train"
    folder.mkdir(parents=True)
    cfg = toy_cfg()
    (folder / "config.yaml").write_text("as the toy")
    cfg.merge_from_other_cfg(cfg)
    cfg.MODEL.FCOS = type(cfg)({"NUM_CLASSES": 2})
    state = Predictor(cfg, None).model.state_dict()
    torch.save(
        {"model": state, "meta": {"classes": ["whole", "bright part"]}}, folder / "model.pth"
    )
    monkeypatch.setattr(config, "load_config", lambda path, overrides: cfg.clone())
    return folder


@pytest.mark.slow
def test_the_last_training_is_the_default(trained: Path, photos: Path) -> None:
    result = run_predict(inputs=[photos], batch_size=2, score_threshold=0.0, save_masks=True)
    assert (result.images, result.instances) == (3, 6)
    output = result.output
    overlays = sorted(path.name for path in (output / "overlays").iterdir())
    assert overlays == ["a.jpg", "a_2.jpg", "b.jpg"]
    with Image.open(output / "overlays/a.jpg") as picture:
        assert picture.width == 800
    masks = sorted(path.name for path in (output / "masks").iterdir())
    assert masks[:2] == ["a_000_whole.png", "a_001_bright-part.png"]
    with Image.open(output / "masks" / masks[1]) as mask:
        assert mask.size == (40, 30)
        assert set(np.unique(np.asarray(mask))) == {0, 255}


@pytest.mark.slow
def test_the_json_is_cocos(trained: Path, photos: Path) -> None:
    result = run_predict(inputs=[photos], score_threshold=0.5)
    assert result.json is not None
    coco = COCO(str(result.json))
    assert [entry["name"] for entry in coco.cats.values()] == ["whole", "bright part"]
    (annotation,) = coco.loadAnns(coco.getAnnIds([1]))
    assert annotation["bbox"] == [0, 0, 40, 30]
    assert annotation["score"] == pytest.approx(0.8)
    assert coco.annToMask(annotation).sum() == annotation["area"] == 40 * 30
    assert coco.imgs[2]["height"] == 48


@pytest.mark.slow
def test_bad_inputs_are_listed_after_the_good_ones_are_done(trained: Path, photos: Path) -> None:
    (photos / "broken.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"3 images done") as error:
        run_predict(inputs=[photos, "nowhere.png"], batch_size=1)
    assert "nowhere.png: it does not exist" in str(error.value)
    assert "broken.jpg: it does not decode" in str(error.value)
    content = json.loads(Path("outputs/predict/predictions.json").read_text())
    assert len(content["images"]) == 3


def test_a_video_becomes_a_video(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with VideoSink(path, 5) as sink:
        for shade in (20, 200, 90):
            frame = np.full((32, 48, 3), shade, np.uint8)
            frame[:10] = 255 - shade
            sink.write(frame)
    result = run_predict(inputs=[path], batch_size=2)
    assert result.images == 3
    assert (result.output / "overlays/film.mp4").stat().st_size > 0
    assert not list(result.output.glob("overlays/.*"))
    content = json.loads((result.output / "predictions.json").read_text())
    assert content["images"][2]["file_name"].endswith("film.mp4#2")


def test_only_what_is_wanted_is_written(trained: Path, photos: Path) -> None:
    result = run_predict(inputs=[photos], save_overlays=False, save_json=False)
    assert result.json is None
    assert list(result.output.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": []}, "no input given"),
        ({"inputs": ["nowhere.jpg"]}, "it does not exist"),
        ({"inputs": ["x.jpg"], "score_threshold": 1.5}, "from 0 to 1"),
        ({"inputs": ["x.jpg"], "batch_size": 0}, "at least 1"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_loaded(
    arguments: dict, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "_load_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UserError, match=message):
        run_predict(**arguments)


def test_without_a_training_it_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"python cli\.py train"):
        run_predict(inputs=[photos])


def test_categories_come_from_the_weights_else_from_coco(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = toy_cfg()
    cfg.MODEL.FCOS = type(cfg)({"NUM_CLASSES": 80})
    coco = _categories(cfg, None)
    assert (coco.names[0], coco.ids[0], coco.ids[-1]) == ("person", 1, 90)
    cfg.MODEL.FCOS.NUM_CLASSES = 2
    assert _categories(cfg, ["a", "b"]) == Categories(("a", "b"), (1, 2))
    assert _categories(cfg, None).names == ("class 0", "class 1")
    (tmp_path / "data/prepared").mkdir(parents=True)
    listed = {"categories": [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}]}
    (tmp_path / "data/prepared/dataset.json").write_text(json.dumps(listed))
    assert _categories(cfg, ["a", "b"]).ids == (3, 8)
    assert _categories(cfg, ["b", "a"]).ids == (1, 2)


def test_a_video_that_is_none_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    sink = PredictionSink(tmp_path / "out", Categories(("a",), (1,)), True, False)
    media = find_media([tmp_path / "bad.mp4"])
    (fault,) = _predict_all(lambda images: [], media, sink, 1)  # type: ignore[arg-type]
    assert "not a video" in fault.reason
