"""A project folder with prepared data of four images, for stages that train."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipeline.params import Params
from tests.conftest import REPOSITORY, TinyDataset


def prepare_small(root: Path, data: TinyDataset, annotations: Any = None) -> None:
    """Make ``data/prepared`` in a folder, and link the recipes into it.

    Args:
        root: the folder.
        data: what is prepared.
        annotations: instead of the data's own, read or as a file.
    """
    from condinst.annotations.building import build_index

    prepared = root / "data" / "prepared"
    for split in ("train", "val"):
        build_index(annotations or data.annotations, data.images, prepared / split)
    content = {
        "name": "small",
        "hash": "0123456789abcdef",
        "categories": data.content["categories"],
        "splits": {"train": {}, "val": {}},
    }
    (prepared / "dataset.json").write_text(json.dumps(content))
    (root / "configs").symlink_to(REPOSITORY / "configs")


def shrink(params: Params, **train: Any) -> Params:
    """A CondInst that trains a step in a tenth of a second."""
    overrides = {
        "MODEL.FPN.OUT_CHANNELS": 32,
        "MODEL.FCOS.NUM_CLS_CONVS": 1,
        "MODEL.FCOS.NUM_BOX_CONVS": 1,
        "INPUT.MIN_SIZE_TRAIN": [64],
        "INPUT.MIN_SIZE_TEST": 64,
    }
    return dataclasses.replace(
        params,
        model=dataclasses.replace(params.model, overrides=overrides),
        train=dataclasses.replace(params.train, **train),
    )
