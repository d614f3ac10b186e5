from __future__ import annotations

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_resnet_backbone
from detectron2.modeling.backbone.resnet import BottleneckBlock

from condinst.config import load_config
from condinst.errors import UserError
from condinst.inference.inference_copy import inference_copy
from condinst.modeling.backbone.deformable import DeformableBlock, DeformableConv, build_resnet
from tests.condinst.modeling.tiny import example, tiny_cfg, tiny_model

RGB = ShapeSpec(channels=3)
DEFORMABLE = ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True])


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("modulated", [False, True])
def test_every_so_many_blocks_are_deformable(interval: int, modulated: bool) -> None:
    keys = ("MODEL.RESNETS.DEFORM_INTERVAL", interval, "MODEL.RESNETS.DEFORM_MODULATED", modulated)
    network = build_resnet(tiny_cfg(*DEFORMABLE, *keys), RGB)
    for name, blocks in (("res2", 3), ("res3", 4), ("res4", 6), ("res5", 3)):
        stage = network.get_submodule(name)
        found = {i for i in range(blocks) if isinstance(stage[i], DeformableBlock)}
        assert found == (set() if name == "res2" else set(range(0, blocks, interval)))
    channels = network.get_submodule("res3")[0].conv2_offset.out_channels
    assert channels == (27 if modulated else 18)


def test_names_are_detectron2s() -> None:
    network = build_resnet(tiny_cfg(*DEFORMABLE, "MODEL.RESNETS.DEFORM_INTERVAL", 3), RGB)
    added = set(network.state_dict()) - set(build_resnet_backbone(tiny_cfg(), RGB).state_dict())
    blocks = ("res3.0", "res3.3", "res4.0", "res4.3", "res5.0")
    assert added == {f"{b}.conv2_offset.{p}" for b in blocks for p in ("weight", "bias")}


def test_without_deformable_stages_the_network_is_detectron2s() -> None:
    network = build_resnet(tiny_cfg("MODEL.RESNETS.DEFORM_INTERVAL", 3), RGB)
    assert not any(isinstance(m, DeformableBlock) for m in network.modules())


def test_a_block_that_moves_nothing_is_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = BottleneckBlock(8, 16, bottleneck_channels=4, stride=2, norm="FrozenBN", dilation=1)
    x = torch.randn(2, 8, 9, 11)
    wanted = plain(x)
    torch.testing.assert_close(DeformableBlock(plain, False, 1)(x), wanted)
    # All factors start at one half, sigmoid(0).
    made = DeformableBlock(plain, True, 1)
    made.conv2.weight.data.mul_(2)
    torch.testing.assert_close(made(x), wanted)


def test_offsets_are_rows_then_columns_of_each_tap() -> None:
    conv = Conv2d(1, 1, 3, padding=1, bias=False)
    conv.weight.data = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    x = torch.arange(30.0).view(1, 1, 5, 6)
    offsets = torch.zeros(1, 18, 5, 6)
    offsets[:, 2 * 4] = 1.0  # the middle tap reads one row further down
    mask = torch.ones(1, 9, 5, 6)
    mask[:, 8] = 0.25  # the last tap counts a quarter
    found = DeformableConv(conv)(x, offsets, mask)[0, 0, 2, 3]
    taps = [x[0, 0, 2 + dy, 3 + dx].item() for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    taps[4] = x[0, 0, 3, 3].item()
    weights = [*range(1, 9), 9 * 0.25]
    assert found.item() == pytest.approx(sum(w * t for w, t in zip(weights, taps, strict=True)))


def test_frozen_stages_stay_frozen() -> None:
    keys = ("MODEL.BACKBONE.FREEZE_AT", 3, "MODEL.RESNETS.DEFORM_MODULATED", True)
    network = build_resnet(tiny_cfg(*DEFORMABLE, *keys), RGB)
    frozen, free = network.get_submodule("res3"), network.get_submodule("res4")
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in free.parameters())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.modules())


def test_trains_in_half_precision_and_infers_from_a_copy() -> None:
    keys = ("MODEL.RESNETS.DEFORM_MODULATED", True, "MODEL.RESNETS.NORM", "FrozenBN")
    model = tiny_model(*DEFORMABLE, *keys, "MODEL.RESNETS.DEFORM_INTERVAL", 3)
    batch = [example(64, 96, [(4, 4, 40, 30)])]
    with torch.autocast("cpu", torch.bfloat16):
        sum(model(batch).values()).backward()
    offset = model.backbone.bottom_up.res3[0].conv2_offset
    assert offset.weight.grad.isfinite().all()
    assert offset.weight.grad.abs().sum() > 0
    assert isinstance(model.backbone.bottom_up.res3[0].conv2.norm, FrozenBatchNorm2d)
    model.eval()
    with torch.no_grad():
        wanted = model(batch)[0]["instances"]
        found = inference_copy(model)(batch)[0]["instances"]
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("keys", [("DEFORM_INTERVAL", 0), ("DEPTH", 34)])
def test_what_cannot_be_is_refused(keys: tuple[str, int]) -> None:
    with pytest.raises(UserError, match="an interval of 1 or more and a depth of 50"):
        build_resnet(tiny_cfg(*DEFORMABLE, f"MODEL.RESNETS.{keys[0]}", keys[1]), RGB)


def test_the_recipe_says_where(repository: object) -> None:
    cfg = load_config(f"{repository}/configs/BoxInst/MS_R_101_BiFPN_dcni3_3x.yaml")
    assert list(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) == [False, True, True, True]
    assert (cfg.MODEL.RESNETS.DEFORM_INTERVAL, cfg.MODEL.RESNETS.DEFORM_MODULATED) == (3, True)
