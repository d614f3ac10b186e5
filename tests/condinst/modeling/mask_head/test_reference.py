import dataclasses

import pytest
import torch

from condinst.errors import UserError
from condinst.modeling.mask_head import reference
from condinst.modeling.mask_head.choice import get_backend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.reference import ReferenceBackend, mask_logits
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.supervision.dice import Dice
from tests.condinst.modeling.tiny import tiny_cfg

SPEC = MaskHeadSpec(
    layout=HeadLayout(features=1, coords=2, width=2, depth=2),
    coordinates="relative",
    sizes_of_interest=(16.0, 32.0),
    feature_stride=8,
    out_stride=4,
    inference_stride=4,
    upsampling="aligned",
    dice=Dice(),
)


def query(count: int, spec: MaskHeadSpec = SPEC, grad: bool = False) -> MaskQuery:
    params = torch.randn(count, spec.layout.num_params, requires_grad=grad)
    images = torch.arange(count) % 2
    return MaskQuery(params, images, torch.rand(count, 2) * 40, torch.arange(count) % 2)


def test_one_instance_by_hand() -> None:
    # Hidden: relu(2 x + feature), relu(-y); logit: 3 h0 + h1 - 1.
    numbers = [2.0, 0, 1, 0, -1, 0, 3, 1, 0, 0, -1]
    one = MaskQuery(
        torch.tensor([numbers]), torch.tensor([0]), torch.tensor([[12.0, 4.0]]), torch.tensor([1])
    )
    features = torch.tensor([[[[1.0, 0.0], [0.5, -1.0]]]])
    # Pixels are at 4 and 12; x = (12 - pixel) / 32 = 0.25, 0; y = (4 - pixel) / 32 = 0, -0.25.
    logits = mask_logits(SPEC, features, one)
    assert logits[0].tolist() == [[3 * 1.5 - 1, -1], [3 * 1 + 0.25 - 1, 0.25 - 1]]


def test_absolute_coordinates_do_not_depend_on_the_instance() -> None:
    torch.manual_seed(0)  # some networks have no hidden unit that is on anywhere
    spec = dataclasses.replace(SPEC, coordinates="absolute")
    features = torch.randn(2, 1, 3, 4)
    one = query(1)
    moved = one._replace(locations=one.locations + 7)
    torch.testing.assert_close(mask_logits(spec, features, one), mask_logits(spec, features, moved))
    other = mask_logits(SPEC, features, moved)
    assert not torch.allclose(mask_logits(SPEC, features, one), other)


def test_dice_by_hand() -> None:
    p, t = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[True, False]]])
    assert Dice(0, 0)(p, t).item() == pytest.approx(1 - 1 / 1.5)
    assert Dice(1, 1)(p, t).item() == pytest.approx(1 - 2 / 2.5)


def test_the_loss_is_the_mean_over_instances() -> None:
    features, masks = torch.randn(2, 1, 3, 4), torch.rand(3, 6, 8) > 0.5
    all_, targets = query(4), torch.tensor([0, 2, 1, 2])
    backend = ReferenceBackend()
    single = [
        backend.loss(
            SPEC, features, MaskQuery(*(x[i : i + 1] for x in all_)), masks, targets[i : i + 1]
        )
        for i in range(4)
    ]
    torch.testing.assert_close(
        backend.loss(SPEC, features, all_, masks, targets), torch.stack(single).mean()
    )


def test_groups_change_neither_loss_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(2, 1, 3, 4, requires_grad=True)
    masks, targets, many = (
        torch.rand(3, 6, 8) > 0.5,
        torch.tensor([0, 2, 1, 2, 0]),
        query(5, grad=True),
    )
    results = []
    for limit in (1 << 25, 100):
        monkeypatch.setattr(reference, "_GROUP_ELEMENTS", limit)
        loss = ReferenceBackend().loss(SPEC, features, many, masks, targets)
        results.append((loss, *torch.autograd.grad(loss, (features, many.params))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_no_instances_is_zero_and_connected() -> None:
    features = torch.randn(2, 1, 3, 4, requires_grad=True)
    none = query(0, grad=True)
    masks, targets = torch.zeros(0, 6, 8, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    loss = ReferenceBackend().loss(SPEC, features, none, masks, targets)
    assert loss.item() == 0
    loss.backward()
    assert features.grad is not None
    assert features.grad.abs().sum() == 0
    assert ReferenceBackend().masks(SPEC, features, none, (20, 30), (40, 60)).shape == (0, 40, 60)


def test_masks_come_at_the_original_size_without_the_padding() -> None:
    # Features alone decide: positive on the left two of four columns, the padding's column is
    # ignored.
    spec = dataclasses.replace(SPEC, layout=HeadLayout(1, 0, 1, 1), coordinates="none")
    features = torch.tensor([[[[1.0, 1.0, -1.0, 1.0]] * 2]])
    one = MaskQuery(
        torch.tensor([[20.0, 0.0]]), torch.tensor([0]), torch.zeros(1, 2), torch.tensor([0])
    )
    (mask,) = ReferenceBackend().masks(spec, features, one, (16, 24), (32, 48))
    assert mask.shape == (32, 48)
    assert mask[:, :32].all()
    assert not mask[:, 40:].any()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("COORDINATES", "polar", "relative, absolute, none"),
        ("MASK_OUT_STRIDE", 3, "divisor of the mask features' stride 8"),
        ("MASK_OUT_STRIDE", 16, "divisor of the mask features' stride 8"),
        ("UPSAMPLING", "cubic", "aligned, plain"),
    ],
)
def test_wrong_settings_are_refused(key: str, value: object, message: str) -> None:
    cfg = tiny_cfg(f"MODEL.CONDINST.{key}", value)
    with pytest.raises(UserError, match=message):
        MaskHeadSpec.from_config(cfg, 8)


def test_disabled_relative_coordinates_leave_none() -> None:
    cfg = tiny_cfg("MODEL.CONDINST.MASK_HEAD.DISABLE_REL_COORDS", True)
    spec = MaskHeadSpec.from_config(cfg, 8)
    assert (spec.coordinates, spec.layout.num_params) == ("none", 8 * 8 + 8 * 8 + 8 + 17)


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(UserError, match="BACKEND = 'magic': use"):
        get_backend("magic")
