from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from condinst.errors import UserError
from condinst.inference.inference_copy import PackedConv, inference_copy
from condinst.inference.winograd import WinogradConv
from condinst.layers.conv import CellConv
from tests.condinst.modeling.tiny import tiny_model


def model_with_statistics(*overrides: Any) -> nn.Module:
    """Norms must have something to fold."""
    model = tiny_model(*overrides).eval()
    for module in model.modules():
        if getattr(module, "running_var", None) is not None:
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            for x in (module.weight, module.bias):  # buffers of FrozenBN, parameters of BN
                x.data.uniform_(0.5, 1.5)
    return model


def detect(
    model: nn.Module, sizes: tuple[tuple[int, int], ...] = ((50, 70), (64, 40))
) -> list[Any]:
    torch.manual_seed(3)
    pictures = [
        {"image": torch.randint(0, 256, (3, h, w), dtype=torch.uint8), "height": h + 9, "width": w}
        for h, w in sizes
    ]
    with torch.inference_mode():
        return [x["instances"] for x in model(pictures)]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("MODEL.RESNETS.NORM", "FrozenBN"),
        ("MODEL.FCOS.NORM", "BN", "MODEL.CONDINST.MASK_BRANCH.KIND", "single_level"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.FCOS.NORM", "none"),
    ],
)
def test_the_same_detections(overrides: tuple[Any, ...]) -> None:
    model = model_with_statistics(*overrides)
    wanted, got = detect(model), detect(inference_copy(model))
    assert sum(len(x) for x in wanted) > 0
    for a, b in zip(wanted, got, strict=True):
        torch.testing.assert_close(b.pred_boxes.tensor, a.pred_boxes.tensor, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(b.scores, a.scores, rtol=1e-4, atol=1e-5)
        assert b.pred_classes.tolist() == a.pred_classes.tolist()
        assert (b.pred_masks != a.pred_masks).float().mean() < 1e-3


def test_no_norm_with_fixed_statistics_is_left_and_the_original_stays() -> None:
    model = model_with_statistics()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    made = inference_copy(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in made.modules())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], x) for name, x in before.items())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_the_pyramid_calls_what_was_packed() -> None:
    made: Any = inference_copy(model_with_statistics())
    called = [*made.backbone.lateral_convs, *made.backbone.output_convs]
    assert called
    assert all(type(x) in (PackedConv, WinogradConv) for x in called)
    assert all(any(x is m for m in made.backbone.children()) for x in called)


def test_bf16_finds_nearly_the_same() -> None:
    model = model_with_statistics()
    wanted, got = detect(model), detect(inference_copy(model, "bf16"))
    for a, b in zip(wanted, got, strict=True):
        assert b.pred_boxes.tensor.dtype == b.scores.dtype == torch.float32
        assert len(b) == len(a)
        torch.testing.assert_close(b.scores.max(), a.scores.max(), rtol=0.05, atol=0.02)


def test_unknown_precision_is_refused() -> None:
    for name in ("int8", "fp16"):  # fp16: on a GPU only
        with pytest.raises(UserError, match=f"precision '{name}': on cpu use fp32 or bf16"):
            inference_copy(nn.Linear(1, 1), name)


def test_convolution_at_cells_is_the_convolution() -> None:
    conv = nn.Conv2d(5, 7, 3, padding=1).requires_grad_(False)
    x = torch.randn(5, 4, 6)
    cells = torch.tensor([0, 5, 23, 18, 9, 9])
    torch.testing.assert_close(CellConv(conv)(x, cells), conv(x[None])[0].flatten(1).T[cells])
    assert CellConv(conv)(x, cells[:0]).shape == (0, 7)
