from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from condinst.checkpoint.key_tables import to_ours
from condinst.checkpoint.loading import load_state, load_weights
from condinst.checkpoint.report import CheckpointMismatch
from condinst.errors import UserError
from condinst.modeling.mask_head.layout import HeadLayout
from tests.condinst.checkpoint.holder import Holder, State, fill


@pytest.fixture
def model(adelaidet: State) -> Holder:
    """A model of AdelaiDet's architecture, all zeros."""
    return Holder(to_ours(adelaidet, "adelaidet").state)


@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_adelaidet_file(tmp_path: Path, adelaidet: State, model: Holder, key: str | None) -> None:
    path = tmp_path / "peer.pth"
    torch.save(adelaidet if key is None else {key: adelaidet, "iteration": 9}, path)
    report = load_weights(model, path)
    assert report.kind == "adelaidet"
    assert report.complete
    assert set(report.loaded) == set(model.tensors)
    assert dict(report.ignored).keys() == {"mask_head.sizes_of_interest"}
    assert [note.endswith(": iteration") for note in report.notes] == [True] * (key is not None)
    expected = to_ours(adelaidet, "adelaidet").state
    assert all(torch.equal(model.tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize("layout", [None, HeadLayout()])
def test_epiphqny(epiphqny: State, layout: HeadLayout | None) -> None:
    expected = to_ours(epiphqny, "epiphqny").state
    model = Holder(expected, layout)
    report = load_state(model, epiphqny)
    assert (report.kind, report.complete) == ("epiphqny", True)
    assert torch.equal(model.tensors["controller.bias"], expected["controller.bias"])


def test_epiphqny_with_a_head_that_shapes_do_not_tell(epiphqny: State) -> None:
    layout = HeadLayout(features=8, coords=2, width=3, depth=3)
    head = "proposal_generator.fcos_head."
    for part in ("weight", "bias"):
        epiphqny[f"{head}controller.{part}"] = epiphqny[f"{head}controller.{part}"][
            : layout.num_params
        ]
    model = Holder(to_ours(epiphqny, "epiphqny", layout).state, layout)
    assert load_state(model, epiphqny).complete


def test_ours_and_a_parallel_wrapper(adelaidet: State, model: Holder) -> None:
    ours = to_ours(adelaidet, "adelaidet").state
    report = load_state(model, {"model": {f"module.{name}": t for name, t in ours.items()}})
    assert report.kind == "condinst"
    assert report.complete
    assert "module." in report.notes[0]


def test_every_difference_is_named(adelaidet: State, model: Holder) -> None:
    del adelaidet["proposal_generator.fcos_head.share_tower.0.weight"]
    adelaidet["proposal_generator.fcos_head.extra.weight"] = torch.ones(2)
    adelaidet["backbone.bottom_up.res9.weight"] = torch.ones(2)
    adelaidet["mask_branch.tower.1.bias"] = torch.ones(5)
    before = model.tensors["mask_branch.tower.1.bias"].clone()
    report = load_state(model, adelaidet, partial=True)
    assert report.missing == ("fcos_head.share_tower.0.weight",)
    assert set(report.unexpected) == {
        "proposal_generator.fcos_head.extra.weight",
        "backbone.bottom_up.res9.weight",
    }
    assert report.ill_shaped == (("mask_branch.tower.1.bias", (5,), (8,)),)
    assert torch.equal(model.tensors["mask_branch.tower.1.bias"], before)
    text = str(report)
    for name in (*report.missing, *report.unexpected, "mask_branch.tower.1.bias: (5,)"):
        assert name in text


def test_other_class_count_starts_the_class_layers_afresh(adelaidet: State) -> None:
    ours = to_ours(adelaidet, "adelaidet").state
    model = Holder(ours | {
        "fcos_head.cls_logits.weight": torch.ones(3, 4, 3, 3),
        "fcos_head.cls_logits.bias": torch.ones(3),
    })  # fmt: skip
    report = load_state(model, adelaidet)
    assert report.ill_shaped == (
        ("fcos_head.cls_logits.weight", (80, 4, 3, 3), (3, 4, 3, 3)),
        ("fcos_head.cls_logits.bias", (80,), (3,)),
    )
    assert "80 classes in the checkpoint and 3 in the model" in report.notes[0]
    with pytest.raises(CheckpointMismatch, match="strict"):
        load_state(model, adelaidet, strict=True)


def test_another_architecture_says_what_fits(adelaidet: State, epiphqny: State) -> None:
    model = Holder(to_ours(adelaidet, "adelaidet").state)
    with pytest.raises(CheckpointMismatch) as caught:
        load_state(model, epiphqny)
    text = str(caught.value)
    assert "backbone.bottom_up: fits" in text
    assert "mask_branch: " in text
    assert "mask_branch: 2 of 6 tensors fit" in text
    assert all(not tensor.any() for tensor in model.tensors.values())
    assert "mask_branch.refine.0.0.weight" in caught.value.report.missing
    assert load_state(model, epiphqny, partial=True).missing


def test_another_detector(model: Holder) -> None:
    names = ("backbone.bottom_up.stem.conv1.weight", "roi_heads.box_head.fc1.weight")
    state = {name: torch.ones(4, 3, 3, 3) for name in names}
    with pytest.raises(UserError, match=r"backbone\.bottom_up: 1 of 3 tensors fit"):
        load_state(model, state)


def test_semantic_head_may_be_absent(adelaidet: State, model: Holder) -> None:
    bare = {n: t for n, t in adelaidet.items() if "seg_head" not in n and "logits" not in n}
    bare |= {n: t for n, t in adelaidet.items() if "cls_logits" in n}
    report = load_state(model, bare)
    assert set(report.missing) == {n for n in model.tensors if n.startswith("semantic_head.")}
    assert any("semantic head" in note for note in report.notes)


def test_msra_pickle(tmp_path: Path) -> None:
    norm = ("weight", "bias", "running_mean", "running_var")
    model = Holder(fill({
        "backbone.bottom_up.stem.conv1.weight": (4, 3, 7, 7),
        **{f"backbone.bottom_up.stem.conv1.norm.{part}": (4,) for part in norm},
        "backbone.bottom_up.res2.0.conv1.weight": (4, 4, 1, 1),
        "backbone.bottom_up.res2.0.shortcut.weight": (8, 4, 1, 1),
        "controller.weight": (1, 1),
    }))  # fmt: skip
    names = ("s", "bias", "rm", "riv")
    shapes = {
        "conv1_w": (4, 3, 7, 7),
        **{f"res_conv1_bn_{name}": (4,) for name in names},
        "res2_0_branch2a_w": (4, 4, 1, 1),
        "res2_0_branch2a_w_momentum": (4, 4, 1, 1),
        "res2_0_branch1_w": (8, 4, 1, 1),
        "fc1000_w": (2, 8),
        "fc1000_b": (2,),
    }
    arrays = {name: tensor.numpy() for name, tensor in fill(shapes).items()}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=2))
    report = load_weights(model, path)
    assert report.kind == "caffe2-backbone"
    assert report.missing == ("controller.weight",)
    assert not report.unexpected
    assert set(dict(report.ignored)) == {"res2_0_branch2a_w_momentum", "fc1000_w", "fc1000_b"}
    weight = model.tensors["backbone.bottom_up.res2.0.shortcut.weight"]
    assert torch.equal(weight, torch.from_numpy(arrays["res2_0_branch1_w"]))


def test_affine_norms_are_said(tmp_path: Path) -> None:
    bottom_up = "backbone.bottom_up."
    model = Holder(fill({
        f"{bottom_up}res2.0.conv1.weight": (4, 4, 1, 1),
        f"{bottom_up}res2.0.conv1.norm.weight": (4,),
        f"{bottom_up}res2.0.conv1.norm.running_mean": (4,),
        f"{bottom_up}res2.0.conv1.norm.running_var": (4,),
    }))  # fmt: skip
    state = fill({"res2_0_branch2a_w": (4, 4, 1, 1), "res2_0_branch2a_bn_s": (4,)})
    report = load_state(model, state)
    assert len(report.missing) == 2
    assert any("FrozenBN" in note for note in report.notes)


def test_backbone_of_another_depth_is_refused() -> None:
    bottom_up = "backbone.bottom_up."
    blocks = {f"{bottom_up}res4.{i}.conv1.weight": (4, 4, 1, 1) for i in range(23)}
    model = Holder(fill({f"{bottom_up}res2.0.conv1.weight": (4, 4, 1, 1), **blocks}))
    state = fill(
        {f"res{s}.{i}.conv1.weight": (4, 4, 1, 1) for s, n in ((2, 1), (4, 6)) for i in range(n)}
    )
    with pytest.raises(UserError, match="7 of 24 tensors fit"):
        load_state(model, state)


def test_other_precision_is_said(adelaidet: State, model: Holder) -> None:
    adelaidet["controller.bias"] = adelaidet["controller.bias"].half()
    report = load_state(model, adelaidet | {"pixel_mean": torch.ones(3, 1, 1)})
    assert "1 tensors are torch.float16 in the checkpoint and became torch.float32" in report.notes
    assert model.tensors["controller.bias"].dtype == torch.float32
    assert "pixel_mean" in dict(report.ignored)


def test_a_level_without_scale(adelaidet: State, model: Holder) -> None:
    scales = {n for n in adelaidet if ".scales." in n}
    del adelaidet["proposal_generator.fcos_head.scales.2.scale"]
    report = load_state(model, adelaidet)
    assert report.missing == ("fcos_head.scales",)
    assert set(report.unexpected) == scales - {"proposal_generator.fcos_head.scales.2.scale"}
