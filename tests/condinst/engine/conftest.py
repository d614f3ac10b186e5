"""A config for the toy model, one folder a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from condinst.config import get_cfg
from tests.condinst.engine.toy import register_toy_data


@pytest.fixture
def toy_cfg(tmp_path: Path) -> Callable[..., CfgNode]:
    """Make a config whose output folder is a new name under the test's own folder."""

    def make(name: str = "run", *overrides: object) -> CfgNode:
        register_toy_data()
        cfg = get_cfg()
        cfg.TOY_FAIL_AT = 0
        cfg.MODEL.META_ARCHITECTURE = "ToyDetector"
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.WEIGHTS = ""
        cfg.SEED = 3
        cfg.OUTPUT_DIR = str(tmp_path / name)
        cfg.DATASETS.TRAIN = ("toy_train",)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH = 4
        cfg.SOLVER.MAX_ITER = 12
        cfg.SOLVER.STEPS = (8,)
        cfg.SOLVER.WARMUP_ITERS = 3
        cfg.SOLVER.BASE_LR = 0.01
        cfg.SOLVER.CHECKPOINT_PERIOD = 5
        cfg.merge_from_list(list(overrides))
        return cfg

    return make
