import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from torch import nn

from condinst.errors import UserError
from condinst.modeling.backbone.bifpn import BiFPNLayer
from tests.condinst.modeling.tiny import tiny_cfg


def cfg(*overrides: object) -> CfgNode:
    return tiny_cfg(
        *("MODEL.BACKBONE.NAME", "build_fcos_resnet_bifpn_backbone"),
        *("MODEL.BiFPN.IN_FEATURES", ["res3", "res4", "res5"], "MODEL.BiFPN.OUT_CHANNELS", 16),
        *("MODEL.BiFPN.NUM_REPEATS", 2, "MODEL.BiFPN.NORM", "BN", *overrides),
    )


def test_five_levels_come_out_at_the_right_strides() -> None:
    backbone = build_backbone(cfg())
    out = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in out.values()] == [
        (16, 8, 12), (16, 4, 6), (16, 2, 3), (16, 1, 2), (16, 1, 1),
    ]  # fmt: skip
    assert list(out) == ["p3", "p4", "p5", "p6", "p7"]
    assert backbone.size_divisibility == 32


def test_a_node_is_the_weighted_mean_of_its_inputs() -> None:
    layer = BiFPNLayer([1] * 5, 1, "")
    for name, conv in layer.named_children():
        assert name.startswith("outputs_")
        nn.init.zeros_(conv.weight)
        conv.weight.data[0, 0, 1, 1] = 1  # the identity
    levels = [torch.full((1, 1, 16 >> i, 16 >> i), float(i)) for i in range(5)]
    out = layer(levels)

    def swish(x: float) -> float:
        return x / (1 + torch.tensor(-x).exp().item())

    half, third = 1 / 2.0001, 1 / 3.0001
    n5 = swish((3 + 4) * half)
    n6 = swish((2 + n5) * half)
    n7 = swish((1 + n6) * half)
    n8 = swish((0 + n7) * half)
    n9 = swish((1 + n7 + n8) * third)
    n10 = swish((2 + n6 + n9) * third)
    n11 = swish((3 + n5 + n10) * third)
    n12 = swish((4 + n11) * half)
    assert [x.mean().item() for x in out] == pytest.approx([n8, n9, n10, n11, n12], rel=1e-5)
    # A negative weight counts as none.
    layer.weights_f4_4_11.data[1] = -1
    assert layer(levels)[4].mean().item() == pytest.approx(swish(4 / 1.0001), rel=1e-5)


def test_inputs_of_another_width_are_projected() -> None:
    layer = build_backbone(cfg()).repeated_bifpn[0]
    assert {n for n, _ in layer.named_children() if n.startswith("lateral")} == {
        "lateral_0_f0", "lateral_1_f1", "lateral_2_f2",
    }  # fmt: skip


def test_the_levels_must_be_five() -> None:
    with pytest.raises(UserError, match="together they must be 5"):
        build_backbone(cfg("MODEL.FCOS.TOP_LEVELS", 1))
