import pytest
import torch
from detectron2.modeling import build_backbone

from condinst.errors import UserError
from tests.condinst.modeling.tiny import tiny_cfg


@pytest.mark.parametrize("top_levels", [0, 1, 2])
def test_top_levels_halve_the_last_level(top_levels: int) -> None:
    backbone = build_backbone(tiny_cfg("MODEL.FCOS.TOP_LEVELS", top_levels))
    names = ["p3", "p4", "p5", "p6", "p7"][: 3 + top_levels]
    out = backbone(torch.randn(1, 3, 64, 96))
    assert list(out) == names
    assert [tuple(x.shape[-2:]) for x in out.values()] == [
        (8, 12), (4, 6), (2, 3), (1, 2), (1, 1),
    ][: 3 + top_levels]  # fmt: skip
    shapes = backbone.output_shape()
    assert [shapes[n].stride for n in names] == [8, 16, 32, 64, 128][: 3 + top_levels]


def test_p6_comes_from_p5_and_p7_from_its_positive_part() -> None:
    backbone = build_backbone(tiny_cfg()).eval()
    out = backbone(torch.randn(1, 3, 64, 96))
    top = backbone.top_block
    torch.testing.assert_close(out["p6"], top.p6(out["p5"]))
    torch.testing.assert_close(out["p7"], top.p7(out["p6"].relu()))


def test_the_pyramid_may_start_at_stride_4() -> None:
    backbone = build_backbone(tiny_cfg("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]))
    assert next(iter(backbone.output_shape())) == "p2"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.FCOS.TOP_LEVELS", 3, "use 0, 1 or 2"),
        ("MODEL.FPN.IN_FEATURES", ["res3", "res9"], "the backbone gives"),
        ("MODEL.BACKBONE.ANTI_ALIAS", True, "not supported"),
    ],
)
def test_wrong_settings_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone(tiny_cfg(key, value))
