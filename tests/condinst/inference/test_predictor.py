from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from condinst.inference.predictor import Predictor
from tests.condinst.inference.toy import toy_cfg


def noise_image(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (250, 20, 10)
    return image


def test_pictures_of_several_sizes_come_back_in_their_own_size_best_first() -> None:
    predictor = Predictor(toy_cfg(), None)
    found = predictor([noise_image(20, 30), noise_image(64, 40)])
    assert [one.image_size for one in found] == [(20, 30), (64, 40)]
    for one in found:
        assert one.scores.tolist() == sorted(one.scores.tolist(), reverse=True)
        assert one.pred_classes.tolist() == [0, 1]
        assert one.pred_masks.shape == (2, *one.image_size)


def test_the_model_is_fed_bgr_at_the_tested_size() -> None:
    predictor = Predictor(toy_cfg(), None)
    predictor([noise_image(20, 30)])
    (fed,) = predictor.model.seen
    assert fed.shape == (3, 32, 48)
    assert fed.dtype == torch.uint8
    assert fed[:, 0, 0].tolist() == [10, 20, 250]


def test_rgb_recipes_are_fed_rgb() -> None:
    cfg = toy_cfg()
    cfg.INPUT.FORMAT = "RGB"
    predictor = Predictor(cfg, None)
    predictor([noise_image(20, 30)])
    assert predictor.model.seen[0][:, 0, 0].tolist() == [250, 20, 10]


def test_low_scores_are_left_out_and_no_picture_is_no_result() -> None:
    predictor = Predictor(toy_cfg(), None, score_threshold=0.5)
    (found,) = predictor([noise_image(20, 30)])
    assert found.pred_classes.tolist() == [0]
    assert predictor([]) == []
    assert len(Predictor(toy_cfg(), None, score_threshold=0.9)([noise_image(8, 8)])[0]) == 0


def test_weights_are_loaded_by_what_was_passed_in(tmp_path: Path) -> None:
    asked = []
    predictor = Predictor(
        toy_cfg(),
        tmp_path / "w.pth",
        load_weights=lambda model, path: asked.append((model, path)) or "report",
    )
    assert asked == [(predictor.model, str(tmp_path / "w.pth"))]
    assert predictor.load_report == "report"
    assert not predictor.model.training


def test_detectron2s_loader_is_the_default(tmp_path: Path) -> None:
    first = Predictor(toy_cfg(), None)
    torch.save({"model": first.model.state_dict()}, tmp_path / "w.pth")
    second = Predictor(toy_cfg(), tmp_path / "w.pth")
    assert torch.equal(first.model.conv.weight, second.model.conv.weight)
