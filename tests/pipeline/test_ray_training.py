"""Ray Train starts the same training: equal to the other launchers, also when a worker is lost."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from benchmarks.kills_train import config, same_files
from condinst.engine import EvaluationHook, launch, train
from condinst.errors import UserError
from pipeline.cluster import storage_of
from pipeline.params import Params, Ray
from pipeline.train.on_ray import Plan, run_on_ray
from pipeline.train.ray_store import CheckpointStore
from pipeline.train.start import check_launcher
from tests.condinst.engine.test_equality import assert_equal, images, step
from tests.condinst.engine.toy import toy_mapper
from tests.condinst.engine.workers import run_workers

STEPS = 12


class Lose(HookBase):
    """In the first life the second worker dies, and with it the first one's disk is gone."""

    def __init__(self, mark: Path, folder: Path) -> None:
        self.mark = mark
        self.folder = folder

    def before_step(self) -> None:
        if self.trainer.iter == 7 and comm.get_rank() == 1 and not self.mark.exists():
            self.mark.touch()
            shutil.rmtree(self.folder)
            os.kill(os.getpid(), signal.SIGKILL)


def train_toy(folder: Path, hooks: tuple[HookBase, ...] = ()) -> None:
    figures = EvaluationHook(
        4, lambda model: {"segm/AP": float(model.state_dict()["norm.weight"].sum())}
    )
    train(config(folder, STEPS), mapper=toy_mapper, hooks=[figures, *hooks], resume=True)


def everything(cfg: CfgNode, out: Path, folder: Path) -> None:
    """What each of Ray's two workers does: a step of CondInst, then a training with a loss."""
    rank, mark = comm.get_rank(), out / "lost"
    if not mark.exists():
        torch.save(step(cfg, images(2)[rank : rank + 1]), out / f"{rank}.pth")
    store = CheckpointStore(folder, 3)
    store.fetch()
    (out / f"start{rank}").write_text(str(sorted(p.name for p in folder.glob("checkpoints/*"))))
    train_toy(folder, (Lose(mark, folder), store))
    store.send("result.json", "model.pth", "model_raw.pth", "model_best.pth")


@pytest.fixture
def gn_cfg(tiny_cfg: CfgNode) -> CfgNode:
    """As in test_equality: three levels, no batch statistics, every loss that there is."""
    keys = {
        "MODEL.FCOS.TOP_LEVELS": 0, "MODEL.FCOS.IN_FEATURES": ["p3", "p4", "p5"],
        "MODEL.FCOS.FPN_STRIDES": [8, 16, 32], "MODEL.FCOS.SIZES_OF_INTEREST": [32, 64],
        "MODEL.RESNETS.NORM": "GN", "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 32, "MODEL.RESNETS.WIDTH_PER_GROUP": 32,
        "MODEL.CONDINST.MASK_BRANCH.NORM": "GN", "MODEL.CONDINST.MAX_PROPOSALS": -1,
        "MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON": True,
    }  # fmt: skip
    tiny_cfg.merge_from_list([x for item in keys.items() for x in item])
    return tiny_cfg


@pytest.mark.slow
def test_two_workers_of_ray_equal_one_process_and_survive(
    gn_cfg: CfgNode, tmp_path: Path, repository: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_workers(lambda: launch(train_toy, (whole,)), tmp_path) == ["", ""]
    # the third cannot share four images evenly: it waits, as of a number that may change
    plan = Plan(
        folder=cut, fewest=2, most=3, gpu=False, images=4, threads=1, stores=True, root=repository
    )
    storage = f"local://{tmp_path}/store"  # of fsspec: pyarrow does not know it
    run_on_ray(everything, (gn_cfg, tmp_path, cut), plan, Ray(storage=storage, failures=1))
    assert (tmp_path / "lost").exists()
    # fetched after the loss; Ray takes in a checkpoint up to two seconds after it was handed over
    fetched = (tmp_path / "start0").read_text()
    assert fetched in ("['step_0000003.pth']", "['step_0000006.pth']")
    assert same_files(whole, cut)
    one = step(gn_cfg, images(2))
    for rank in (0, 1):
        assert_equal(one, torch.load(tmp_path / f"{rank}.pth", weights_only=True))


def test_storage(tmp_path: Path) -> None:
    for address in (f"{tmp_path}/a", f"file://{tmp_path}/a", f"local://{tmp_path}/a"):
        filesystem, path = storage_of(address)
        with filesystem.open_output_stream(f"{path}/x") as file:
            file.write(b"1")
        assert (tmp_path / "a" / "x").read_bytes() == b"1"
        (tmp_path / "a" / "x").unlink()
    with pytest.raises(UserError, match=r"ray.storage = nowhere://x.*s3://bucket"):
        storage_of("nowhere://x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        storage_of(f"{tmp_path}/file/a")


def test_ray_does_not_start_inside_torchrun(
    tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "h"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.chdir(tmp_path)
    asked = dataclasses.replace(tiny_params.train, launcher="ray")
    with pytest.raises(UserError, match="starts the workers itself"):
        check_launcher(asked)
