"""Kills at any moment cost nothing; benchmarks/kills_train.py has the whole table."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from benchmarks.kills_train import survive


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_training_ends_with_the_same_weights(processes: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    done, equal = survive(tmp_path, processes, 4, random.Random(processes))
    assert done.total() == 4
    assert equal
