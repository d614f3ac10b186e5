import math

import pytest
import torch

from condinst.config import get_cfg
from condinst.errors import UserError
from condinst.modeling.fcos.losses import (
    LossSettings,
    box_losses,
    centerness,
    class_loss,
    location_loss,
    overlap,
)

ONE = torch.tensor(1.0)


def test_focal_loss_by_hand() -> None:
    # Probability 1/2 everywhere: (1/2)^2 * log 2 a term, weighted 1/4 for the one positive, 3/4 for
    # the rest.
    loss = class_loss(torch.zeros(2, 3), torch.tensor([1, 3]), LossSettings())
    assert loss.item() == pytest.approx(0.25 * math.log(2) * (0.25 + 5 * 0.75))


def test_centerness_by_hand() -> None:
    made = centerness(torch.tensor([[1.0, 2.0, 4.0, 8.0], [3.0, 3.0, 3.0, 3.0]]))
    assert made.tolist() == pytest.approx([0.25, 1.0])


def test_overlap_by_hand() -> None:
    # Predicted 2 x 2, wanted 4 x 2, sharing the left half: intersection 4, union 8, hull 8.
    pair = overlap(torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[1.0, 1, 3, 1]]))
    assert pair.iou.item() == pytest.approx(5 / 9)
    assert pair.giou.item() == pytest.approx(5 / 9)
    # Predicted 2 x 4, wanted 4 x 2, crossing: intersection 4, union 12, hull 16.
    cross = overlap(torch.tensor([[1.0, 2, 1, 2]]), torch.tensor([[2.0, 1, 2, 1]]))
    assert cross.giou.item() == pytest.approx(5 / 13 - 4 / 16)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("iou", -math.log(5 / 13)), ("linear_iou", 8 / 13), ("giou", 1 - 5 / 13 + 0.25)],
)
def test_location_losses_by_hand(kind: str, expected: float) -> None:
    pair = overlap(torch.tensor([[1.0, 2, 1, 2]]), torch.tensor([[2.0, 1, 2, 1]]))
    assert location_loss(pair, kind).item() == pytest.approx(expected)


def test_centerness_weighs_the_location_loss() -> None:
    predicted = torch.tensor([[1.0, 2, 1, 2], [1, 1, 1, 1]])
    target = torch.tensor([[2.0, 1, 2, 1], [1, 1, 3, 1]])
    made = box_losses(predicted, torch.zeros(2), target, ONE * 2, ONE * 4, LossSettings())
    weights = [1.0, math.sqrt(1 / 3)]
    total = (1 - 5 / 13 + 0.25) * weights[0] + (1 - 5 / 9) * weights[1]
    assert made["loss_fcos_loc"].item() == pytest.approx(total / 4)
    assert made["loss_fcos_ctr"].item() == pytest.approx(math.log(2))


def test_iou_quality_is_unweighted_and_has_its_own_name() -> None:
    predicted, target = torch.tensor([[1.0, 2, 1, 2]]), torch.tensor([[2.0, 1, 2, 1]])
    settings = LossSettings(quality="iou")
    quality = torch.tensor([0.0], requires_grad=True)
    made = box_losses(predicted, quality, target, ONE * 2, ONE, settings)
    assert set(made) == {"loss_fcos_loc", "loss_fcos_iou"}
    assert made["loss_fcos_loc"].item() == pytest.approx((1 - 5 / 13 + 0.25) / 2)
    made["loss_fcos_iou"].backward()
    assert quality.grad.item() == pytest.approx((0.5 - 5 / 13) / 2)


@pytest.mark.parametrize("quality", ["ctrness", "iou"])
def test_no_positives_is_zero_and_connected(quality: str) -> None:
    distances = torch.zeros(0, 4, requires_grad=True)
    made = box_losses(distances, torch.zeros(0), distances, ONE, ONE, LossSettings(quality=quality))
    assert all(x.item() == 0 for x in made.values())
    made["loss_fcos_loc"].backward()
    assert distances.grad is not None


@pytest.mark.parametrize("key", ["LOC_LOSS_TYPE", "BOX_QUALITY", "LOSS_NORMALIZER_CLS"])
def test_unknown_names_are_refused(key: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.FCOS[key] = "diou"
    with pytest.raises(UserError, match=f"MODEL.FCOS.{key} = 'diou': use one of"):
        LossSettings.from_config(cfg)
