"""Which images make up a step, and with which random numbers they are augmented.

Both follow from ``(seed, step)`` alone, never from what ran before. So a resumed run sees the
batches of an uninterrupted one without saved state, and any number of loader workers or processes
gives the same images: a process takes its share of the step's slots.

Letters: ``N`` images in the dataset; ``B`` images per step over all processes.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, get_detection_dataset_dicts
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from condinst.data.index import Index
from condinst.data.listed import check_listed
from condinst.data.registered import classes_explained, records_of
from condinst.errors import UserError

_ATTEMPTS = 20


class Slot(NamedTuple):
    """One image of one step: its position in the step and its index in the dataset."""

    step: int
    place: int
    index: int


def derived_seed(*parts: int) -> int:
    """Mix integers of at least 0 into one 32-bit seed."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def seed_everything(*parts: int) -> None:
    """Seed Python, numpy and torch (all devices) from the same integers."""
    seed = derived_seed(*parts)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # detectron2's augmentations draw from it
    if _has_accelerator():
        torch.manual_seed(seed)
    else:  # torch would note the call for a GPU, with its stack: most of a small image's time
        torch.default_generator.manual_seed(seed)


@functools.cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


class StepSampler(Sampler[list[Slot]]):
    """This process's slots, step after step, without end.

    Args:
        size: N.
        images_per_step: B.
        seed: of the order.
        start_step: the first step to give.
        rank: of this process; its positions start at ``rank * B / world_size``.
        world_size: number of processes; divides B.
        groups: a label for every image. If given, the images of a step share a label as far as
            possible (landscape with landscape: less padding), and each epoch leaves out the
            remainder of N / B images, different ones every time.
    """

    def __init__(
        self,
        size: int,
        images_per_step: int,
        seed: int,
        *,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        groups: np.ndarray | None = None,
    ) -> None:
        assert size > 0, size
        assert images_per_step % world_size == 0, (images_per_step, world_size)
        self.size = size
        self.images_per_step = images_per_step
        self.seed = seed
        self.start_step = start_step
        share = images_per_step // world_size
        self.places = range(rank * share, (rank + 1) * share)
        self.groups = groups if size >= images_per_step else None
        self._epoch: tuple[int, np.ndarray] | None = None

    def __iter__(self) -> Iterator[list[Slot]]:
        """Yield the slots of ``start_step``, ``start_step + 1``, ..."""
        step = self.start_step
        while True:
            yield self.slots(step)
            step += 1

    def slots(self, step: int) -> list[Slot]:
        """The slots of any step."""
        return [Slot(step, place, self._index(step, place)) for place in self.places]

    def _index(self, step: int, place: int) -> int:
        if self.groups is None:
            epoch, offset = divmod(step * self.images_per_step + place, self.size)
        else:
            epoch, batch = divmod(step, self.size // self.images_per_step)
            offset = batch * self.images_per_step + place
        return int(self._order(epoch)[offset])

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(self.size)
            if self.groups is not None:
                order = _by_group(order, self.groups, self.images_per_step, rng)
            self._epoch = (epoch, order)
        return self._epoch[1]


def _by_group(
    order: np.ndarray, groups: np.ndarray, images_per_step: int, rng: np.random.Generator
) -> np.ndarray:
    """Reorder so that runs of B images share a group; leftovers form mixed runs."""
    full, left = [], []
    for group in np.unique(groups):
        members = order[groups[order] == group]
        whole = len(members) // images_per_step * images_per_step
        full.append(members[:whole])
        left.append(members[whole:])
    tail = rng.permutation(np.concatenate(left))
    tail = tail[: len(tail) // images_per_step * images_per_step]
    runs = np.concatenate([*full, tail]).reshape(-1, images_per_step)
    return rng.permutation(runs).reshape(-1)


class SeededDataset(Dataset):
    """Maps a :class:`Slot` to a model input, with random numbers that depend only on the slot.

    Args:
        records: detectron2's dataset dicts.
        mapper: turns a record into a model input, or into None for an unusable image; then
            another image, drawn from the slot's own random numbers, takes its place.
        seed: of the augmentations.
    """

    def __init__(
        self, records: Sequence[dict[str, Any]], mapper: Callable[[dict], dict | None], seed: int
    ) -> None:
        self.records = records
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        """N."""
        return len(self.records)

    def __getitem__(self, slot: Slot) -> dict[str, Any]:
        """The model input of a slot."""
        seed_everything(self.seed, slot.step, slot.place)
        index = slot.index
        for _ in range(_ATTEMPTS):
            mapped = self.mapper(self.records[index])
            if mapped is not None:
                return mapped
            index = random.randrange(len(self.records))
        raise UserError(
            f"{_ATTEMPTS} images in a row could not be used for training (the last: "
            f"{self.records[index].get('file_name')}); check the data with `cli.py prepare`"
        )


def next_batch(batches: Iterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The next batch; a UserError in a loader worker comes without that worker's traceback."""
    try:
        return next(batches)
    except UserError as error:
        marker = f"{UserError.__name__}: "
        raise UserError(str(error).rpartition(marker)[2].strip()) from error


def training_records(cfg: CfgNode) -> Sequence[dict[str, Any]]:
    """The dicts of all datasets in ``DATASETS.TRAIN``.

    A single memory-mapped index is read on demand; lists are packed once for all loader workers.

    Raises:
        UserError: a dataset is not registered, or none has an image.
    """
    names = tuple(cfg.DATASETS.TRAIN)
    unknown = [name for name in names if name not in DatasetCatalog]
    if unknown or not names:
        raise UserError(
            f"DATASETS.TRAIN = {names}: {unknown or 'no name'} is not a registered dataset; "
            f"known: {', '.join(sorted(DatasetCatalog.list())[:20])}, ..."
        )
    if len(names) == 1:
        records = records_of(names[0])
        if isinstance(records, Index):
            return _with_objects(records, cfg)
    try:
        with classes_explained(*names):
            dicts = get_detection_dataset_dicts(
                names, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
            )
        check_listed(dicts, cfg)
        return DatasetFromList(dicts, copy=False)
    except FileNotFoundError as error:
        raise UserError(
            f"DATASETS.TRAIN = {names}: {error}; set DETECTRON2_DATASETS to the folder with "
            "the datasets (coco/annotations, coco/train2017, ...)"
        ) from error


class _Subset(Sequence):
    """Chosen records of a lazy sequence."""

    def __init__(self, records: Sequence[dict[str, Any]], keep: np.ndarray) -> None:
        self.records = records
        self.keep = keep

    def __len__(self) -> int:
        return len(self.keep)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyrefly: ignore[bad-override]
        return self.records[int(self.keep[index])]


def _with_objects(index: Index, cfg: CfgNode) -> Sequence[dict[str, Any]]:
    """The images of an index to train on."""
    names = tuple(cfg.DATASETS.TRAIN)
    if not len(index):
        raise UserError(f"DATASETS.TRAIN = {names}: it has no images")
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return index
    keep = np.flatnonzero(index.objects)
    if not len(keep):
        raise UserError(
            f"DATASETS.TRAIN = {names}: no image has an object; set "
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS False to train on images without objects"
        )
    return index if len(keep) == len(index) else _Subset(index, keep)


def _orientation(records: Sequence[dict[str, Any]]) -> np.ndarray:
    """(N,) whether an image is wider than it is high."""
    if isinstance(records, _Subset):
        return _orientation(records.records)[records.keep]
    if isinstance(records, Index):
        return records.sizes[:, 1] > records.sizes[:, 0]
    return np.array([record["width"] > record["height"] for record in records])


def build_train_loader(
    cfg: CfgNode, mapper: Callable[[dict], dict | None], *, seed: int, start_step: int = 0
) -> DataLoader:
    """An endless loader of lists of model inputs, from ``start_step`` on.

    Args:
        cfg: its ``DATASETS.TRAIN``, ``DATALOADER`` and ``SOLVER.IMS_PER_BATCH`` are read.
        mapper: see :class:`SeededDataset`.
        seed: of order and augmentations.
        start_step: number of the first step.

    Raises:
        UserError: the images per step do not divide among the processes, or data is missing.
    """
    batch, world = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch % world or batch < world:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH = {batch} does not divide among {world} processes; choose a "
            f"multiple of {world}"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise UserError(
            f"DATALOADER.SAMPLER_TRAIN = {cfg.DATALOADER.SAMPLER_TRAIN!r} is not supported; "
            "allowed: TrainingSampler"
        )
    records = training_records(cfg)
    if cfg.DEBUG.OVERFIT:
        records = _Subset(records, np.arange(min(cfg.DEBUG.OVERFIT, len(records))))
    sampler = StepSampler(
        len(records),
        batch,
        seed,
        start_step=start_step,
        rank=comm.get_rank(),
        world_size=world,
        groups=_orientation(records) if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
    )
    workers = cfg.DATALOADER.NUM_WORKERS
    return DataLoader(
        SeededDataset(records, mapper, seed),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_as_list,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator().manual_seed(seed),
    )


def _as_list(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch
