"""Order and random numbers follow from seed and step alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from detectron2.config import CfgNode

from condinst.engine.batches import SeededDataset, Slot, StepSampler, build_train_loader
from condinst.errors import UserError
from tests.condinst.engine.toy import toy_mapper

MakeConfig = Callable[..., CfgNode]


def steps(sampler: StepSampler, count: int) -> list[list[int]]:
    return [[slot.index for slot in slots] for slots in itertools.islice(sampler, count)]


def test_every_image_once_an_epoch() -> None:
    order = list(itertools.chain(*steps(StepSampler(10, 4, seed=0), 5)))
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]


def test_later_start_continues_the_same_order() -> None:
    whole = steps(StepSampler(7, 3, seed=1), 9)
    assert steps(StepSampler(7, 3, seed=1, start_step=4), 5) == whole[4:]
    assert steps(StepSampler(7, 3, seed=2), 9) != whole


def test_processes_share_the_step() -> None:
    whole = steps(StepSampler(7, 4, seed=1), 5)
    halves = [steps(StepSampler(7, 4, seed=1, rank=r, world_size=2), 5) for r in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_groups_stay_together() -> None:
    groups = np.array([0] * 8 + [1] * 9)
    order = steps(StepSampler(17, 4, seed=0, groups=groups), 8)
    for epoch in (order[:4], order[4:]):
        assert len(set(itertools.chain(*epoch))) == 16
        assert all(len({groups[i] for i in step}) == 1 for step in epoch)
    assert order[:4] != order[4:]


def test_more_places_than_images() -> None:
    assert sorted(steps(StepSampler(2, 4, seed=0, groups=np.zeros(2)), 1)[0]) == [0, 0, 1, 1]


def test_augmentation_follows_from_the_slot() -> None:
    data = SeededDataset([{}] * 3, lambda _: {"x": float(np.random.rand())}, seed=5)  # noqa: NPY002
    first = data[Slot(2, 1, 0)]
    np.random.rand(7)  # noqa: NPY002
    assert data[Slot(2, 1, 0)] == first
    assert data[Slot(2, 0, 0)] != first
    assert data[Slot(3, 1, 0)] != first


def test_unusable_image_is_replaced_the_same_way_each_time() -> None:
    data = SeededDataset([0, 1, 2], lambda r: None if r == 0 else {"r": r}, seed=5)
    assert data[Slot(0, 0, 0)] == data[Slot(0, 0, 0)] != {"r": 0}
    with pytest.raises(UserError, match="could not be used"):
        SeededDataset([{"file_name": "a.jpg"}], lambda _: None, seed=5)[Slot(0, 0, 0)]


def test_unknown_data_set(toy_cfg: MakeConfig) -> None:
    with pytest.raises(UserError, match="no_such"):
        build_train_loader(toy_cfg("r", "DATASETS.TRAIN", ("no_such",)), dict, seed=0)


def test_workers_give_the_same_batches(toy_cfg: MakeConfig) -> None:
    def images(workers: int) -> list[np.ndarray]:
        cfg = toy_cfg("r", "DATALOADER.NUM_WORKERS", workers)
        loader = build_train_loader(cfg, toy_mapper, seed=0)
        batches = list(itertools.islice(loader, 3))
        return [one["image"].numpy() for batch in batches for one in batch]

    np.testing.assert_array_equal(images(0), images(2))
