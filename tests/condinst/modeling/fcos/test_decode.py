import pytest
import torch

from condinst.modeling.fcos.decode import DecodeSettings, decode
from condinst.modeling.fcos.head import HeadOutput

LOCATIONS = [torch.tensor([[4.0, 4.0], [12.0, 4.0]])]


def logit(*p: float) -> torch.Tensor:
    return torch.tensor(p).logit()


def output(classes: torch.Tensor, quality: torch.Tensor) -> HeadOutput:
    """One image, one level of 1 x 2 cells; every box reaches half a stride to all sides."""
    return HeadOutput(
        [classes[None, :, None]],
        [torch.full((1, 4, 1, 2), 0.5)],
        [quality[None, None, None]],
        [torch.zeros(1, 1, 1, 2)],
    )


def test_boxes_and_scores_by_hand() -> None:
    out = output(logit(0.64, 0.01)[None], logit(0.25, 0.9))
    (found,) = decode(out, LOCATIONS, (8,), DecodeSettings())
    assert found.boxes.tolist() == [[0, 0, 8, 8]]
    assert found.scores.tolist() == pytest.approx([0.4])
    assert found.locations.tolist() == [[4, 4]]
    assert (found.levels.item(), found.cells.item(), found.classes.item()) == (0, 0, 0)


def test_the_threshold_comes_before_or_after_the_quality() -> None:
    out = output(logit(0.08, 0.01)[None], logit(0.5, 0.5))
    assert len(decode(out, LOCATIONS, (8,), DecodeSettings(quality_first=False))[0].scores) == 1
    assert len(decode(out, LOCATIONS, (8,), DecodeSettings(quality_first=True))[0].scores) == 0


def test_the_nms_is_class_wise() -> None:
    same = HeadOutput(
        [torch.stack((logit(0.9, 0.8), logit(0.7, 0.1)))[None, :, None]],
        [torch.tensor([[4.0, 4, 4, 4], [5, 4, 3, 4]]).T[None, :, None]],
        [logit(0.9, 0.9)[None, None, None]],
        [torch.zeros(1, 1, 1, 2)],
    )  # both cells predict the same box
    (found,) = decode(same, LOCATIONS, (8,), DecodeSettings())
    assert found.classes.tolist() == [0, 1]
    assert found.cells.tolist() == [0, 0]


def test_ties_with_the_last_one_stay() -> None:
    out = output(logit(0.5, 0.5)[None], logit(0.5, 0.5))
    assert len(decode(out, LOCATIONS, (8,), DecodeSettings(post_nms=1))[0].scores) == 2
    assert len(decode(out, LOCATIONS, (8,), DecodeSettings(pre_nms=1))[0].scores) == 1


def test_nothing_found_keeps_its_shapes() -> None:
    out = output(logit(0.01, 0.01)[None], logit(0.5, 0.5))
    (found,) = decode(out, LOCATIONS, (8,), DecodeSettings())
    assert found.boxes.shape == (0, 4)
    assert found.locations.shape == (0, 2)
