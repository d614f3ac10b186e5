from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condinst.checkpoint.key_tables import to_ours
from condinst.checkpoint.reading import load_checkpoint
from condinst.convert import convert
from condinst.errors import UserError
from tests.condinst.checkpoint.holder import State


def assert_same(found: Any, expected: Any) -> None:
    """Equal in content, types, order and bits."""
    assert type(found) is type(expected)
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.stride() == expected.stride()
        assert torch.equal(
            found.contiguous().view(torch.uint8) if found.dim() else found,
            expected.contiguous().view(torch.uint8) if expected.dim() else expected,
        )
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        assert getattr(found, "_metadata", None) == getattr(expected, "_metadata", None)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def _training_state() -> dict[str, Any]:
    return {
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(3)}},
            "param_groups": [{"lr": 1}],
        },
        "scheduler": {"last_epoch": 5},
        "iteration": 4,
        "note": "kept",
    }


def _wrapped(state: State) -> dict[str, Any]:
    """A file of detectron2's checkpointer, with the version numbers that torch puts on a dict."""
    ordered = OrderedDict(state)
    vars(ordered)["_metadata"] = OrderedDict({"": {"version": 1}})
    return {"iteration": 4, "model": ordered, **_training_state()}


def _save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("peer", ["adelaidet", "epiphqny"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_there_and_back_is_the_identity(
    tmp_path: Path, request: pytest.FixtureRequest, peer: str, wrapped: bool
) -> None:
    state = request.getfixturevalue(peer)
    state["backbone.bottom_up.stem.conv1.weight"][0, 0, 0, 0] = float("nan")
    state["controller.extra"] = torch.ones(2, 2).t()  # a tensor that nobody knows
    content = _wrapped(state) if wrapped else state
    src = _save(content, tmp_path / "peer.pth")
    done = convert(src, tmp_path / "ours.pth")
    assert (done.source, done.target, done.restored) == (peer, "condinst", False)
    ours = load_checkpoint(tmp_path / "ours.pth")
    assert set(ours) == {"model", "meta"}
    assert set(to_ours(state, peer).state) == set(ours["model"])
    done = convert(tmp_path / "ours.pth", tmp_path / "back.pth", target=peer)
    assert done.restored
    assert_same(load_checkpoint(tmp_path / "back.pth"), load_checkpoint(src))


@pytest.mark.parametrize("peer", ["adelaidet", "epiphqny"])
def test_ours_there_and_back(tmp_path: Path, request: pytest.FixtureRequest, peer: str) -> None:
    state = to_ours(request.getfixturevalue(peer), peer).state
    src = _save({"model": state, "meta": {"steps": 3, "classes": ["a"]}}, tmp_path / "ours.pth")
    convert(src, tmp_path / "theirs.pth", source="condinst", target=peer)
    theirs = load_checkpoint(tmp_path / "theirs.pth")
    assert "proposal_generator.fcos_head.scales.4.scale" in theirs["model"]
    convert(tmp_path / "theirs.pth", tmp_path / "back.pth", source=peer)
    assert_same(load_checkpoint(tmp_path / "back.pth"), load_checkpoint(src))


def test_half_precision_and_twice_over(tmp_path: Path, epiphqny: State) -> None:
    src = _save({"model": {n: t.half() for n, t in epiphqny.items()}}, tmp_path / "0.pth")
    for i, target in enumerate(["condinst", "epiphqny", "condinst", "epiphqny"]):
        convert(tmp_path / f"{i}.pth", tmp_path / f"{i + 1}.pth", target=target)
    assert_same(load_checkpoint(tmp_path / "4.pth"), load_checkpoint(src))


def test_optimizer_can_be_left_out(tmp_path: Path, adelaidet: State) -> None:
    src = _save(_wrapped(adelaidet), tmp_path / "peer.pth")
    done = convert(src, tmp_path / "ours.pth", strip_optimizer=True)
    assert set(done.stripped) == {"iteration", "optimizer", "scheduler"}
    convert(tmp_path / "ours.pth", tmp_path / "back.pth", target="adelaidet")
    assert list(load_checkpoint(tmp_path / "back.pth")) == ["model", "note"]
    # and later as well, from the record of the origin
    convert(src, tmp_path / "full.pth")
    done = convert(tmp_path / "full.pth", tmp_path / "slim.pth", strip_optimizer=True)
    assert "origin.optimizer" in done.stripped
    convert(tmp_path / "slim.pth", tmp_path / "back.pth", target="adelaidet")
    assert list(load_checkpoint(tmp_path / "back.pth")) == ["model", "note"]


def test_values_trained_since_are_carried_back(tmp_path: Path, epiphqny: State) -> None:
    convert(_save({"model": epiphqny}, tmp_path / "peer.pth"), tmp_path / "ours.pth")
    ours = load_checkpoint(tmp_path / "ours.pth")
    ours["model"]["fcos_head.scales"] += 1
    convert(_save(ours, tmp_path / "new.pth"), tmp_path / "back.pth", target="epiphqny")
    name = "proposal_generator.fcos_head.scales.2.scale"
    assert load_checkpoint(tmp_path / "back.pth")["model"][name] == epiphqny[name] + 1


def test_architectures_do_not_mix(tmp_path: Path, adelaidet: State, epiphqny: State) -> None:
    one = _save({"model": adelaidet}, tmp_path / "a.pth")
    other = _save({"model": epiphqny}, tmp_path / "e.pth")
    with pytest.raises(UserError, match="Epiphqny/CondInst has no counterpart for"):
        convert(one, tmp_path / "x.pth", target="epiphqny")
    with pytest.raises(UserError, match="AdelaiDet has no counterpart for"):
        convert(other, tmp_path / "x.pth", target="adelaidet")
    assert not (tmp_path / "x.pth").exists()


def test_wrong_names_and_files(tmp_path: Path, adelaidet: State) -> None:
    src = _save({"model": adelaidet}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="not of epiphqny"):
        convert(src, tmp_path / "x.pth", source="epiphqny")
    with pytest.raises(UserError, match="'mmdet'"):
        convert(src, tmp_path / "x.pth", target="mmdet")
    other = _save({"model": {"roi_heads.box.weight": torch.ones(1)}}, tmp_path / "o.pth")
    with pytest.raises(UserError, match=r"not a CondInst checkpoint.*roi_heads"):
        convert(other, tmp_path / "x.pth")


def test_nothing_is_left_half_written(
    tmp_path: Path, adelaidet: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = _save({"model": adelaidet}, tmp_path / "a.pth")
    dst = tmp_path / "out" / "b.pth"
    dst.parent.mkdir()
    dst.write_text("before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"b\.pth could not be written: disk full"):
        convert(src, dst)
    assert [p.name for p in dst.parent.iterdir()] == ["b.pth"]
    assert dst.read_text() == "before"


@pytest.mark.slow
def test_recorded_peers(tmp_path: Path, shared_dir: Path) -> None:
    for file in sorted((shared_dir / "parity").glob("*.pt")):
        content = load_checkpoint(file)
        convert(file, tmp_path / "ours.pth")
        convert(tmp_path / "ours.pth", tmp_path / "back.pth", target=content["peer"])
        assert_same(load_checkpoint(tmp_path / "back.pth"), content)


def test_recipe_tells_a_head_that_shapes_do_not(tmp_path: Path, epiphqny: State) -> None:
    head = "proposal_generator.fcos_head.controller."
    epiphqny[f"{head}weight"] = torch.randn(241, 4, 3, 3)  # depth 2, 4 or 6
    epiphqny[f"{head}bias"] = torch.arange(241.0)
    src = _save({"model": epiphqny}, tmp_path / "peer.pth")
    with pytest.raises(UserError, match="give the recipe of the weights"):
        convert(src, tmp_path / "ours.pth")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("MODEL: {CONDINST: {MASK_HEAD: {NUM_LAYERS: 4}}}\n")
    convert(src, tmp_path / "ours.pth", config_file=recipe)
    biases = load_checkpoint(tmp_path / "ours.pth")["model"]["controller.bias"]
    layers = [range(80, 88), range(152, 160), range(224, 232), range(240, 241)]  # in peer's order
    assert biases[-25:].tolist() == [number for layer in layers for number in layer]
    convert(tmp_path / "ours.pth", tmp_path / "back.pth", "auto", "epiphqny", config_file=recipe)
    assert_same(load_checkpoint(tmp_path / "back.pth"), load_checkpoint(src))
