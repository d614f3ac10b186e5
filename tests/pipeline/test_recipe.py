"""From params.yaml to detectron2's config: what is set, what follows, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import CfgNode

from condinst.errors import UserError
from pipeline.params import Params, override
from pipeline.recipe import PreparedData, load_resolved, resolve

DATA = PreparedData(Path("nowhere"), "toy", "abc", ("a", "b", "c"))


@pytest.fixture(autouse=True)
def in_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def cfg_of(params: Params, **train: Any) -> CfgNode:
    return resolve(
        dataclasses.replace(params, train=dataclasses.replace(params.train, **train)), DATA
    ).cfg


RECIPE = "configs/CondInst/MS_R_50_1x.yaml"


def as_recipe(params: Params, **train: Any) -> Params:
    """A published recipe with all of `train` null, but for what is given."""
    names = ("steps", "images_per_step", "lr", "warmup_steps", "checkpoint_period")
    nothing: dict[str, Any] = dict.fromkeys(names)
    changed = dataclasses.replace(params.train, **{**nothing, **train})
    model = dataclasses.replace(params.model, config=RECIPE, overrides={})
    return dataclasses.replace(params, train=changed, model=model)


def test_params_win_over_the_recipe(params: Params) -> None:
    cfg = cfg_of(params, steps=50, images_per_step=4, lr=0.5, warmup_steps=7, seed=9, workers=1)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (50, 4, 0.5)
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SEED, cfg.DATALOADER.NUM_WORKERS) == (7, 9, 1)
    assert cfg.MODEL.FCOS.NUM_CLASSES == 3
    assert cfg.MODEL.DEVICE == "cpu"


def test_null_leaves_the_recipe(params: Params) -> None:
    recipe = resolve(as_recipe(params), DATA)
    solver = recipe.cfg.SOLVER
    assert (solver.MAX_ITER, solver.STEPS, solver.IMS_PER_BATCH) == (90000, (60000, 80000), 16)
    assert solver.BASE_LR == 0.01
    assert recipe.notes == ()


def test_linear_rule_and_its_note(params: Params) -> None:
    recipe = resolve(as_recipe(params, images_per_step=4), DATA)
    solver = recipe.cfg.SOLVER
    assert pytest.approx(0.0025) == solver.BASE_LR
    assert (solver.MAX_ITER, solver.STEPS) == (360000, (240000, 320000))
    assert "linear scaling rule" in recipe.notes[0]
    fixed = resolve(as_recipe(params, images_per_step=4, lr=0.01, steps=9000), DATA).cfg.SOLVER
    assert (fixed.BASE_LR, fixed.MAX_ITER, fixed.STEPS) == (0.01, 9000, (6000, 8000))


def test_warm_up_is_no_longer_than_the_training(params: Params) -> None:
    recipe = resolve(as_recipe(params, steps=10, warmup_steps=100), DATA)
    assert recipe.cfg.SOLVER.WARMUP_ITERS == 10
    assert any("warm-up" in note for note in recipe.notes)


def test_a_step_or_two_have_no_room_for_drops(params: Params) -> None:
    assert resolve(as_recipe(params, steps=1), DATA).cfg.SOLVER.STEPS == ()
    assert resolve(as_recipe(params, steps=4), DATA).cfg.SOLVER.STEPS == (3,)


def test_clipping_and_precision(params: Params) -> None:
    on, off = cfg_of(params, clip_gradients=2.0, amp="bf16"), cfg_of(params, clip_gradients=0.0)
    assert on.SOLVER.CLIP_GRADIENTS.ENABLED
    assert on.SOLVER.CLIP_GRADIENTS.CLIP_TYPE == "full_model"
    assert on.SOLVER.CLIP_GRADIENTS.CLIP_VALUE == 2.0
    assert (on.SOLVER.AMP.ENABLED, on.SOLVER.AMP.DTYPE) == (True, "bfloat16")
    assert not off.SOLVER.CLIP_GRADIENTS.ENABLED
    assert not off.SOLVER.AMP.ENABLED


def test_overrides_of_a_variant(params: Params) -> None:
    changed = override(params, {"MODEL.CONDINST.MASK_OUT_STRIDE": 1, "train.steps": 11})
    cfg = resolve(changed, DATA).cfg
    assert (cfg.MODEL.CONDINST.MASK_OUT_STRIDE, cfg.SOLVER.MAX_ITER) == (1, 11)


def test_unknown_key_names_the_nearest(params: Params) -> None:
    changed = override(params, {"MODEL.CONDINST.MASK_OUT_STRIDES": 1})
    with pytest.raises(UserError, match=r"mean MODEL.CONDINST.MASK_OUT_STRIDE\?"):
        resolve(changed, DATA)


def test_resolved_config_reads_back(params: Params, tmp_path: Path) -> None:
    cfg = cfg_of(params)
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    assert yaml.safe_load(load_resolved(path).dump()) == yaml.safe_load(cfg.dump())
    with pytest.raises(UserError, match=r"cli.py train"):
        load_resolved(tmp_path / "none.yaml")


def test_config_that_an_earlier_version_left(params: Params, tmp_path: Path) -> None:
    """It holds AdelaiDet's other models, and lacks what came later."""
    cfg = cfg_of(params)
    former = yaml.safe_load(cfg.dump())
    former["MODEL"] |= {"BASIS_MODULE": {"NUM_BASES": 4}, "MEInst": {"DIM_MASK": 60}}
    del former["MODEL"]["BOXINST"], former["SOLVER"]["NUM_THREADS"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(former))
    read = yaml.safe_load(load_resolved(tmp_path / "config.yaml").dump())
    read["SOLVER"]["NUM_THREADS"] = cfg.SOLVER.NUM_THREADS  # by default as many as there are cores
    assert read == yaml.safe_load(cfg.dump())


def test_prepared_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cli.py prepare"):
        PreparedData.load(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        PreparedData.load(tmp_path)
    names = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {"name": "pets", "hash": "h", "categories": names, "splits": {}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    data = PreparedData.load(tmp_path)
    assert (data.name, data.hash, data.classes) == ("pets", "h", ("cat", "dog"))


def test_more_threads_than_cores_are_kept_and_named(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.recipe.available_cores", lambda: 2)
    found = resolve(override(params, {"train.threads": 64}), DATA)
    assert found.cfg.SOLVER.NUM_THREADS == 64
    assert any("train.threads = 64 on 2 cores is slower than 2" in note for note in found.notes)
    two = resolve(override(params, {"train.threads": 2}), DATA)
    assert not any("threads" in note for note in two.notes)
