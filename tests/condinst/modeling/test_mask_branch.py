import pytest
import torch
from detectron2.layers import ShapeSpec

from condinst.errors import UserError
from condinst.layers.upsampling import aligned_bilinear
from condinst.modeling.mask_branch import build_mask_branch
from tests.condinst.modeling.tiny import tiny_cfg

SHAPES = {f"p{i}": ShapeSpec(channels=32, stride=2**i) for i in range(2, 6)}
BRANCH = "MODEL.CONDINST.MASK_BRANCH."
FEATURES = {f"p{i}": torch.randn(1, 32, 64 >> i, 96 >> i) for i in range(2, 6)}


def test_levels_are_upsampled_to_the_finest_and_added() -> None:
    branch = build_mask_branch(tiny_cfg(BRANCH + "NUM_CONVS", 0), SHAPES).eval()
    parts = [refine(FEATURES[f"p{i}"]) for i, refine in zip((3, 4, 5), branch.refine, strict=True)]
    total = parts[0] + aligned_bilinear(parts[1], 2) + aligned_bilinear(parts[2], 4)
    out = branch(FEATURES)
    assert out.shape == (1, 8, 8, 12)
    torch.testing.assert_close(out, branch.tower(total))


def test_the_stride_is_the_first_levels() -> None:
    branch = build_mask_branch(tiny_cfg(BRANCH + "IN_FEATURES", ["p2", "p3"]), SHAPES)
    assert branch(FEATURES).shape == (1, 8, 16, 24)


def test_one_level_alone_is_as_wide_as_its_input() -> None:
    cfg = tiny_cfg(
        *(BRANCH + "KIND", "single_level", BRANCH + "CHANNELS", -1, BRANCH + "NUM_CONVS", 2),
        *(BRANCH + "NORM", "fcos", BRANCH + "OUT_CHANNELS", 4),
    )
    branch = build_mask_branch(cfg, SHAPES)
    shapes = {name: tuple(p.shape) for name, p in branch.named_parameters()}
    assert shapes["tower.1.0.weight"] == (32, 32, 3, 3)
    assert shapes["tower.1.1.weight"] == (32,)
    assert shapes["tower.2.weight"] == (4, 32, 3, 3)
    assert branch(FEATURES).shape == (1, 4, 8, 12)


def test_mask_features_may_be_off() -> None:
    branch = build_mask_branch(tiny_cfg("MODEL.CONDINST.USE_MASK_FEATURES", False), SHAPES)
    assert branch(FEATURES).shape == (1, 0, 8, 12)
    assert not list(branch.parameters())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("KIND", "pyramid", "multi_level or single_level"), ("IN_FEATURES", ["p9"], "backbone gives")],
)
def test_wrong_settings_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_mask_branch(tiny_cfg(BRANCH + key, value), SHAPES)
