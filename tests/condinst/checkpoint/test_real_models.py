"""Loading into models as detectron2 builds them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from condinst.checkpoint.key_tables import to_peer
from condinst.checkpoint.loading import load_state, load_weights
from condinst.checkpoint.recognise import recognise
from condinst.checkpoint.report import CheckpointMismatch
from condinst.config import load_config
from tests.condinst.checkpoint.holder import State

NARROW = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "16",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "4",
    "MODEL.FPN.OUT_CHANNELS", "32",
    "MODEL.BiFPN.OUT_CHANNELS", "32",
    "MODEL.BiFPN.NORM", "BN",
    "MODEL.BiFPN.NUM_REPEATS", "1",
    "MODEL.DEVICE", "cpu",
    "MODEL.WEIGHTS", "",
]  # fmt: skip


def _config(repository: Path, recipe: str, *overrides: str) -> CfgNode:
    return load_config(repository / "configs" / "CondInst" / recipe, [*NARROW, *overrides])


def _bottom_up(model: nn.Module) -> State:
    """The ResNet's tensors under bare names."""
    pattern = re.compile(r"backbone\.bottom_up\.(backbone\.)?(?=stem|res[2-5])")
    return {pattern.sub("", n): t for n, t in model.state_dict().items() if pattern.match(n)}


def _caffe2_name(name: str) -> str:
    for ours, theirs in (
        (r"norm\.weight", "bn.gamma"),
        (r"norm\.bias", "bn.beta"),
        (r"norm\.running", "bn.running"),
        (r"stem\.conv1\.bn", "res.conv1.bn"),
        (r"stem\.conv1", "conv1"),
        (r"(res\d\.\d+)\.conv1\b", r"\1.branch2a"),
        (r"(res\d\.\d+)\.conv2\b", r"\1.branch2b"),
        (r"(res\d\.\d+)\.conv3\b", r"\1.branch2c"),
        (r"shortcut\b", "branch1"),
        (r"\.weight", ".w"),
    ):
        name = re.sub(ours, theirs, name)
    return name.replace(".", "_")


@pytest.mark.parametrize("recipe", ["MS_R_50_1x.yaml", "MS_R_50_BiFPN_1x.yaml"])
@pytest.mark.parametrize("names", ["caffe2", "detectron2"])
def test_backbone_pickles(tmp_path: Path, repository: Path, recipe: str, names: str) -> None:
    first, second = (build_model(_config(repository, recipe)) for _ in range(2))
    arrays = {n: t.numpy() for n, t in _bottom_up(first).items()}
    content: dict = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    if names == "caffe2":
        content = {_caffe2_name(n): a for n, a in arrays.items()}
    (tmp_path / "R.pkl").write_bytes(pickle.dumps(content, protocol=2))
    report = load_weights(second, tmp_path / "R.pkl")
    assert report.kind == f"{names}-backbone"
    assert not report.unexpected
    assert not report.ill_shaped
    assert len(report.loaded) == len(arrays)
    assert not any(re.search(r"\.(stem|res[2-5])\.", n) for n in report.missing)
    found = _bottom_up(second)
    assert all(torch.equal(found[n], torch.from_numpy(a)) for n, a in arrays.items())


def test_other_depth_and_other_classes(repository: Path) -> None:
    shallow = build_model(_config(repository, "MS_R_50_1x.yaml"))
    deep = build_model(_config(repository, "MS_R_50_1x.yaml", "MODEL.RESNETS.DEPTH", "101"))
    with pytest.raises(CheckpointMismatch) as caught:
        load_state(deep, shallow.state_dict())
    assert re.search(r"backbone\.bottom_up: \d+ of \d+ tensors fit", str(caught.value))
    assert "mask_branch: fits" in str(caught.value)
    assert any(".res4.6." in name for name in caught.value.report.missing)
    few = build_model(_config(repository, "MS_R_50_1x.yaml", "MODEL.FCOS.NUM_CLASSES", "3"))
    bias = few.fcos_head.cls_logits.bias.detach().clone()
    report = load_state(few, shallow.state_dict())
    assert [name for name, _, _ in report.ill_shaped] == [
        "fcos_head.cls_logits.weight",
        "fcos_head.cls_logits.bias",
    ]
    assert torch.equal(few.fcos_head.cls_logits.bias, bias)


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.CONDINST.MASK_HEAD.CHANNELS", "4", "MODEL.CONDINST.MASK_HEAD.NUM_LAYERS", "2"),
        ("MODEL.CONDINST.MASK_BRANCH.OUT_CHANNELS", "5"),
    ],
)
def test_any_mask_head_in_epiphqnys_order(repository: Path, overrides: tuple[str, ...]) -> None:
    """Weights in Epiphqny's order find their way into heads of any size."""
    cfg = _config(
        repository,
        "MS_R_50_1x.yaml",
        *overrides,
        *("MODEL.CONDINST.MASK_BRANCH.KIND", "single_level"),
        *("MODEL.CONDINST.MASK_BRANCH.IN_FEATURES", "['p3']"),
        *("MODEL.CONDINST.MASK_BRANCH.CHANNELS", "-1"),
        *("MODEL.CONDINST.MASK_BRANCH.NORM", "fcos"),
    )
    first, second = build_model(cfg), build_model(cfg)
    theirs = to_peer(first.state_dict(), "epiphqny", first.mask_spec.layout)
    assert not theirs.rest
    assert recognise(theirs.state) == "epiphqny"
    head = "proposal_generator.fcos_head.controller.weight"
    assert not torch.equal(theirs.state[head], first.controller.weight)
    assert load_state(second, theirs.state).complete
    assert torch.equal(second.controller.weight, first.controller.weight)


def test_recorded_peers_fit_completely(repository: Path, shared_dir: Path) -> None:
    file = shared_dir / "parity" / "adelaidet_r50_sem.pt"
    options = torch.load(file, weights_only=True)["options"]
    cfg = load_config(repository / "configs" / "CondInst" / "MS_R_50_3x_sem.yaml", options)
    report = load_weights(build_model(cfg), file)
    assert report.complete
    assert len(report.ignored) == 2
