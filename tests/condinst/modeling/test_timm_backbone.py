from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_backbone, build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor, nn

from condinst.checkpoint.key_tables import to_ours, to_peer
from condinst.checkpoint.loading import load_state
from condinst.config import get_cfg, load_config
from condinst.errors import UserError
from condinst.modeling.backbone.timm_backbone import build_named_backbone

IMAGE = ShapeSpec(channels=3)
RES = ["res3", "res4", "res5"]


@pytest.fixture
def cfg() -> CfgNode:
    """Our defaults with a narrow pyramid and nothing frozen."""
    cfg = get_cfg()
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.FPN.IN_FEATURES = RES
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    return cfg


class Model(nn.Module):
    """Only a backbone, where a detector has it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize(
    ("name", "features", "channels"),
    [
        ("timm/dla34", RES, [128, 256, 512]),
        ("timm/efficientnet_lite0", RES, [40, 112, 320]),
        ("timm/convnext_tiny", RES, [192, 384, 768]),
        ("build_fcos_dla_fpn_backbone", ["level3", "level4", "level5"], [128, 256, 512]),
        ("build_fcos_mobilenetv2_fpn_backbone", RES, [32, 96, 320]),
        ("build_fcos_vovnet_fpn_backbone", ["stage3", "stage4", "stage5"], [512, 768, 1024]),
    ],
)
def test_shapes_and_strides(
    cfg: CfgNode, name: str, features: list[str], channels: list[int]
) -> None:
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.FPN.IN_FEATURES = features
    backbone = build_named_backbone(cfg).eval()
    bottom_up = backbone.bottom_up.output_shape()
    assert [bottom_up[f].channels for f in features] == channels
    assert [bottom_up[f].stride for f in features] == [8, 16, 32]
    assert backbone.size_divisibility == 32
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert {name: tuple(x.shape[-2:]) for name, x in maps.items()} == {
        "p3": (8, 12), "p4": (4, 6), "p5": (2, 3), "p6": (1, 2), "p7": (1, 1),
    }  # fmt: skip
    for level, shape in backbone.output_shape().items():
        assert shape.stride == 2 ** int(level[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MS_V_39_3x", "MS_V_57_3x", "MS_V_99_3x", "MS_MobileNetV2_3x"])
def test_recipes(repository: Path, name: str) -> None:
    cfg = load_config(repository / "configs" / "CondInst" / "epiphqny" / f"{name}.yaml")
    shapes = build_named_backbone(cfg).output_shape()
    assert [(s.channels, s.stride) for s in shapes.values()] == [
        (256, 8), (256, 16), (256, 32), (256, 64), (256, 128),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/dla34", "timm/efficientnet_lite0", "timm/convnext_tiny"])
def test_whole_detectors_train_and_infer(repository: Path, name: str) -> None:
    overrides = ["MODEL.BACKBONE.NAME", name, "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "64"]
    model = build_model(
        load_config(repository / "configs" / "CondInst" / "MS_R_50_1x.yaml", overrides)
    )
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    truth = Instances((64, 96))
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 56.0, 56.0]]))
    truth.gt_classes = torch.tensor([3])
    masks = torch.zeros(1, 64, 96, dtype=torch.bool)
    masks[:, 8:56, 8:56] = True
    truth.gt_masks = BitMasks(masks)
    losses = model.train()([{"image": image, "instances": truth}])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        out = model.eval()([{"image": image, "height": 64, "width": 96}])
    assert out[0]["instances"].image_size == (64, 96)


def test_registered_names_are_built_too(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE.NAME = "build_fcos_resnet_fpn_backbone"
    cfg.MODEL.MOBILENET = True
    assert build_named_backbone(cfg).bottom_up.net.conv_stem.out_channels == 32
    assert build_backbone(cfg).size_divisibility == 32


@pytest.mark.parametrize("name", ["timm/dla35", "build_fcos_vovnet_backbone"])
def test_unknown_names(cfg: CfgNode, name: str) -> None:
    cfg.MODEL.BACKBONE.NAME = name
    with pytest.raises(UserError, match=r"similar names: .*(dla34|build_fcos_vovnet_fpn_backbone)"):
        build_named_backbone(cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.FPN.IN_FEATURES", ["stage3"], r"gives the features .*res5.*, not \['stage3'\]"),
        ("MODEL.TIMM.NORM", "GN", "MODEL.TIMM.NORM = 'GN'"),
        ("MODEL.BACKBONE.FREEZE_AT", 6, r"FREEZE_AT = 6: use 0, 1 or one of \[2, 3, 4, 5\]"),
    ],
)
def test_wrong_settings(cfg: CfgNode, key: str, value: Any, message: str) -> None:
    cfg.MODEL.BACKBONE.NAME = "timm/dla34"
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=message):
        build_named_backbone(cfg)


@pytest.mark.parametrize(
    ("freeze_at", "frozen"),
    [
        (0, set()),
        (1, {"base_layer", "level0", "level1"}),
        (2, {"base_layer", "level0", "level1", "level2"}),
    ],
)
@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_freezing(cfg: CfgNode, freeze_at: int, frozen: set[str], norm: str) -> None:
    cfg.MODEL.BACKBONE.NAME = "timm/dla34"
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.TIMM.NORM = norm
    net = build_named_backbone(cfg).bottom_up.net
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] not in frozen), name
    norms = {n.split(".")[0] for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    everything = {"base_layer", *(f"level{i}" for i in range(6))}
    assert norms == (everything - frozen if norm == "BN" else set())


def test_mobilenet_freezes_unit_by_unit(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE.FREEZE_AT = 3
    net = BACKBONE_REGISTRY.get("build_mnv2_backbone")(cfg, IMAGE).net
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    assert {".".join(n.split(".")[:3]) for n in frozen if n.startswith("blocks")} == {
        "blocks.0.0",
        "blocks.1.0",
    }
    assert {"conv_stem.weight", "bn1.bias"} <= frozen


def test_frozen_norm_changes_nothing_at_inference(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE.NAME = "timm/efficientnet_lite0"
    cfg.MODEL.TIMM.NORM = "BN"
    learning = build_named_backbone(cfg).eval()
    for module in learning.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    cfg.MODEL.TIMM.NORM = "FrozenBN"
    frozen = build_named_backbone(cfg)
    report = load_state(
        Model(frozen), {f"backbone.{n}": t for n, t in learning.state_dict().items()}
    )
    assert not report.missing
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = learning(x), frozen.train()(x)
    for level in expected:
        torch.testing.assert_close(found[level], expected[level], rtol=1e-4, atol=1e-4)


def test_mobilenet_equals_torchvisions(cfg: CfgNode) -> None:
    """The peers' MobileNetV2 is torchvision's network under other names."""
    reference = torchvision.models.mobilenet_v2(weights=None).eval()
    _stir(reference)
    state = {_peer_mobilenet_name(n): t for n, t in reference.state_dict().items()}
    model = Model(BACKBONE_REGISTRY.get("build_fcos_mobilenetv2_fpn_backbone")(cfg, IMAGE)).eval()
    report = load_state(model, {n: t for n, t in state.items() if n is not None})
    assert report.kind == "mobilenetv2-backbone"
    assert not report.unexpected
    assert all(".bottom_up." not in name for name in report.missing)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = model.backbone.bottom_up(x)
        for i, block in enumerate(reference.features[:-1]):
            x = block(x)
            if i in (3, 6, 13, 17):
                name = {3: "res2", 6: "res3", 13: "res4", 17: "res5"}[i]
                torch.testing.assert_close(found[name], x, rtol=1e-4, atol=1e-4)


def _peer_mobilenet_name(name: str) -> str | None:
    """Torchvision groups conv and norm of a unit; the peers number them through, ReLUs included."""
    m = re.fullmatch(r"features\.(\d+)\.conv\.(.+)\.(\w+)", name)
    if m is None:
        return name
    first = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
    others = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
    place = (first if m[1] == "1" else others)[m[2]]
    return f"features.{m[1]}.conv.{place}.{m[3]}"


def _stir(net: nn.Module) -> None:
    """Random statistics, so that swapped norms would show."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(module.weight, 0.8, 1.2)


@pytest.mark.parametrize("body", ["V-39-eSE", "V-19-slim-dw-eSE"])
def test_vovnet_names(cfg: CfgNode, body: str) -> None:
    cfg.MODEL.VOVNET.CONV_BODY = body
    vovnet = BACKBONE_REGISTRY.get("build_vovnet_backbone")(cfg, IMAGE)
    ours = {f"backbone.bottom_up.{name}": tensor for name, tensor in vovnet.state_dict().items()}
    peer = to_peer(ours, "epiphqny")
    assert not peer.rest
    names = {n.removeprefix("backbone.bottom_up.") for n in peer.state}
    kinds = {re.sub(r"\d+", "#", n.rsplit(".", 1)[0]) for n in names}
    unit = {"conv", "norm"} if body == "V-39-eSE" else {"dw_conv#x#", "pw_conv#x#", "pw_norm"}
    assert kinds == {
        "stem.stem_#/conv", "stem.stem_#/norm", "stage#.OSA#_#.ese.fc",
        *(f"stem.stem_#/{part}" for part in unit),
        *(f"stage#.OSA#_#.layers.#.OSA#_#_#/{part}" for part in unit),
        *(f"stage#.OSA#_#.concat.OSA#_#_concat/{part}" for part in ("conv", "norm")),
        *((f"stage#.OSA#_#.conv_reduction.OSA#_#_reduction_#/{part}" for part in ("conv", "norm"))
          if body != "V-39-eSE" else ()),
    }  # fmt: skip
    assert "stage5.OSA5_1.concat.OSA5_1_concat/norm.running_var" in names
    back = to_ours(peer.state, "epiphqny")
    assert back.state.keys() == ours.keys()
    assert all(torch.equal(back.state[n], tensor) for n, tensor in ours.items())


def test_vovnet_squeezes_in_every_block_and_loads_a_bare_file(cfg: CfgNode) -> None:
    cfg.MODEL.VOVNET.CONV_BODY = "V-39-eSE"
    cfg.MODEL.FPN.IN_FEATURES = ["stage3", "stage4", "stage5"]
    build = BACKBONE_REGISTRY.get("build_fcos_vovnet_fpn_backbone")
    first, second = (Model(build(cfg, IMAGE)).eval() for _ in range(2))
    names = [n for n in first.state_dict() if n.endswith("attn.fc.weight")]
    assert len(names) == 1 + 1 + 2 + 2
    theirs = to_peer(first.state_dict(), "epiphqny").state
    bare = {n.removeprefix("backbone.bottom_up."): t for n, t in theirs.items() if "bottom_up" in n}
    report = load_state(second, bare | {"head.fc.weight": torch.ones(2)})
    assert report.kind == "vovnet-backbone"
    assert dict(report.ignored).keys() == {"head.fc.weight"}
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _same(first.backbone.bottom_up, second.backbone.bottom_up, x)


def _same(one: Callable[[Tensor], Any], other: Callable[[Tensor], Any], x: Tensor) -> None:
    found, expected = other(x), one(x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["dla34", "efficientnet_lite0"])
def test_timms_own_weights(cfg: CfgNode, name: str) -> None:
    whole = timm.create_model(name, num_classes=3).eval()
    cfg.MODEL.BACKBONE.NAME = f"timm/{name}"
    model = Model(build_named_backbone(cfg)).eval()
    report = load_state(model, whole.state_dict())
    assert report.kind == "timm-backbone"
    assert not report.unexpected
    assert report.ignored
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = whole.forward_intermediates(x, intermediates_only=True)
        found = model.backbone.bottom_up(x)
    torch.testing.assert_close(found["res5"], maps[-1], rtol=1e-4, atol=1e-4)


def test_dla_of_the_peers(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE.NAME = "build_fcos_dla_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["level3", "level4", "level5"]
    model = Model(build_named_backbone(cfg))
    state = to_peer(model.state_dict(), "adelaidet").state
    assert "backbone.bottom_up.level2.tree1.conv1.weight" in state
    bare = {n.removeprefix("backbone.bottom_up."): t for n, t in state.items() if "bottom_up" in n}
    unused = {"level3.project.0.weight": torch.ones(1)}  # an outer tree's, of which timm has none
    report = load_state(model, bare | unused)
    assert report.kind == "timm-backbone"  # DLA's names are the same at the peers and in timm
    assert dict(report.ignored).keys() == set(unused)
    assert all("bottom_up" not in name for name in report.missing)


def test_torchvision_resnet_gives_torchvisions_features(cfg: CfgNode) -> None:
    reference = torchvision.models.resnet18(weights=None).eval()
    _stir(reference)
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = RES
    cfg.MODEL.BACKBONE.NAME = "build_fcos_resnet_fpn_backbone"
    model = Model(build_named_backbone(cfg)).eval()
    report = load_state(model, reference.state_dict())
    assert report.kind == "torchvision-backbone"
    assert not report.unexpected
    assert dict(report.ignored).keys() >= {"fc.weight", "fc.bias"}
    assert any("RGB" in note for note in report.notes)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = model.backbone.bottom_up(x)
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        for i in range(1, 5):
            x = reference.get_submodule(f"layer{i}")(x)
            if i > 1:
                torch.testing.assert_close(found[f"res{i + 1}"], x, rtol=1e-4, atol=1e-4)
