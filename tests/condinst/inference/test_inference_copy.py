from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from condinst.errors import UserError
from condinst.inference import inference_copy as copying
from condinst.inference.inference_copy import inference_copy
from condinst.inference.packed import PackedConv
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
    batch = [
        {"image": torch.randint(0, 256, (3, h, w), dtype=torch.uint8), "height": h + 9, "width": w}
        for h, w in sizes
    ]
    with torch.inference_mode():
        return [x["instances"] for x in model(batch)]


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


def test_the_pyramid_calls_what_was_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "refusal", lambda _: None)  # packs alone: nothing is computed
    made: Any = inference_copy(model_with_statistics())
    called = [*made.backbone.lateral_convs, *made.backbone.output_convs]
    assert called
    assert all(type(x) is PackedConv for x in called)
    assert all(any(x is m for m in made.backbone.children()) for x in called)


def wide_model() -> nn.Module:
    made: Any = nn.Module()
    made.backbone = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU())
    made.forward = made.backbone.forward
    return made.requires_grad_(False)


def test_winograd_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "refusal", lambda _: None)
    kinds = [type(inference_copy(wide_model(), winograd=x).backbone[0]) for x in (False, True)]
    assert kinds == [PackedConv, WinogradConv]


def missing(*_: Any) -> Any:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")


def raising(*_: Any) -> Any:
    raise RuntimeError("bf16 path needs avx512bw\nand so on")


@pytest.mark.parametrize(
    ("operator", "said"), [(missing, "has no attribute"), (raising, "avx512bw")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ordinary_convolutions_where_packed_ones_fail(
    operator: Any,
    said: str,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", operator, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    copying._say_once.cache_clear()
    model = model_with_statistics()
    made = [inference_copy(model, precision, winograd=True) for _ in range(2)][1]
    warned = [x.message for x in caplog.records if x.levelname == "WARNING"]
    assert len(warned) == 1  # of two copies
    assert f"inference in {precision} with ordinary convolutions" in warned[0]
    assert said in warned[0]
    assert "and so on" not in warned[0]
    assert not any(isinstance(m, (PackedConv, WinogradConv)) for m in made.modules())
    for a, b in zip(detect(model), detect(made), strict=True):
        close = (
            {"rtol": 1e-4, "atol": 1e-5} if precision == "fp32" else {"rtol": 0.05, "atol": 0.02}
        )
        assert len(b) == len(a) > 0
        torch.testing.assert_close(b.scores.max(), a.scores.max(), **close)


class Doubled(nn.Sequential):
    """A sequence with a way of its own, as timm has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[1](self[0](x) * 2)


class Backbone(nn.Module):
    """What timm's networks have that detectron2's have not."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        named = [("conv", nn.Conv2d(2, 2, 1)), ("act", relu), ("again", nn.Conv2d(2, 2, 1))]
        self.named = nn.Sequential(OrderedDict([*named, ("act2", relu)]))
        self.doubled = Doubled(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.active = nn.Sequential(nn.Conv2d(2, 2, 1), BatchNormAct2d(2, act_layer=nn.SiLU))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.doubled[0]  # read off, as by networks that pad or place for themselves
        padded = F.pad(self.named(x), [conv.kernel_size[0] - conv.stride[0]] * 4)
        return self.active(self.doubled(padded.to(conv.weight.device)))


class Detector(nn.Module):
    """Only a backbone, where a detector has it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)


def test_sequences_of_timm_and_copies_of_the_copy() -> None:
    torch.manual_seed(0)
    model, x = Detector().eval(), torch.randn(2, 2, 5, 7)
    for norm in (model.backbone.doubled[1], model.backbone.active[1]):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    made = inference_copy(model)
    with torch.no_grad():
        wanted = model(x)
        torch.testing.assert_close(made(x), wanted, rtol=1e-5, atol=1e-5)
        for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert torch.equal(again(x), made(x))


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
