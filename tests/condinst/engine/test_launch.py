"""Several processes compute what one does; what cannot start says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode

from condinst.engine import TrainResult, launch, train
from condinst.errors import UserError
from tests.condinst.engine.toy import register_toy_data, toy_mapper

MakeConfig = Callable[..., CfgNode]


def train_toy(cfg: CfgNode) -> None:
    register_toy_data()
    train(cfg, mapper=toy_mapper, log_period=4)


def fail() -> None:
    raise UserError("lr = -1 must be positive")


def test_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"--num-gpus 8.*0 CUDA devices"):
        launch(train_toy, num_gpus=8)


def test_machines_need_an_address_and_a_rank() -> None:
    with pytest.raises(UserError, match="--dist-url"):
        launch(train_toy, num_machines=2)
    with pytest.raises(UserError, match="--machine-rank 2"):
        launch(train_toy, num_machines=2, machine_rank=2, dist_url="tcp://x:1")


@pytest.mark.slow
def test_two_processes_train_and_agree(toy_cfg: MakeConfig) -> None:
    # dropout and batch statistics differ by process: leave only the data to share
    keys = ("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2)
    launch(train_toy, (toy_cfg("two", *keys),), num_processes=2)
    result = TrainResult.load(toy_cfg("two").OUTPUT_DIR)
    assert result is not None
    assert result.steps == 1


@pytest.mark.slow
def test_error_in_a_process_reaches_the_caller() -> None:
    with pytest.raises(UserError, match="lr = -1"):
        launch(fail, num_processes=2)
