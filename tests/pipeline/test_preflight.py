"""What is refused before the first step, and how to train all the same."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode

from condinst.config import get_cfg
from condinst.errors import UserError
from pipeline.train import preflight
from pipeline.train.options import seconds_of


def recipe(*keys: object) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.FCOS.NUM_CLASSES = 3
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 16, 0.01
    cfg.merge_from_list(list(keys))
    return cfg


def found(*keys: object, workers: int = 1, asked: int | None = None) -> str:
    checked = preflight.check(
        recipe(*keys),
        recipe(),
        classes=3,
        workers=workers,
        skip_preflight=True,
        asked_classes=asked,
    )
    return "\n".join(checked)


def test_sound_training_passes() -> None:
    assert found() == ""
    assert found("SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.00125) == ""


def test_one_image_under_batch_norms_from_random_weights() -> None:
    one = ("SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.001)
    assert "one image at a time" in found(*one, workers=2)
    assert "one image at a time" in found(*one, "SOLVER.ACCUMULATE", 2)
    assert found(*one, "SOLVER.SYNC_BN", True, workers=2) == ""
    assert found(*one, "MODEL.WEIGHTS", "R-50.pkl", workers=2) == ""
    assert found(*one, "MODEL.RESNETS.NORM", "GN", workers=2) == ""


def test_classes_that_disagree() -> None:
    assert "NUM_CLASSES = 80, but the data has 3" in found("MODEL.FCOS.NUM_CLASSES", 80)
    assert "NUM_CLASSES = 5, but the data has 3" in found(asked=5)


def test_learning_rate_out_of_scale() -> None:
    assert "100 times what the recipe gives" in found("SOLVER.BASE_LR", 1.0)
    assert "0.01 times" in found("SOLVER.BASE_LR", 1e-4)


def test_refusal_names_the_way_to_skip_it() -> None:
    with pytest.raises(UserError, match=r"most likely fail:\n.*1 images?(.|\n)*--skip-preflight"):
        preflight.check(
            recipe("SOLVER.IMS_PER_BATCH", 1), recipe(), classes=3, workers=1, skip_preflight=False
        )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("1.5h", 5400), ("2d", 172800), ("1:00:05", 3605)],
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1:30"])
def test_no_times(text: str) -> None:
    with pytest.raises(UserError, match="--max-time"):
        seconds_of(text)
