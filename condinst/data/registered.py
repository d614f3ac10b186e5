"""Datasets registered under detectron2's names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from condinst.errors import UserError


def records_of(name: str) -> Sequence[dict[str, Any]]:
    """The records of a registered dataset.

    Raises:
        UserError: its file has other classes than the name implies.
    """
    with classes_explained(name):
        return DatasetCatalog.get(name)


@contextlib.contextmanager
def classes_explained(*names: str) -> Iterator[None]:
    """Turn detectron2's assertion about changed classes into a UserError.

    Args:
        names: of the datasets to read.
    """
    try:
        yield
    except AssertionError as error:
        name = next((name for name in names if f"'{name}'" in str(error)), None)
        if name is None or "thing_classes" not in str(error):
            raise
        metadata = MetadataCatalog.get(name)
        raise UserError(
            f"{getattr(metadata, 'json_file', name)} has classes of its own, but {name} stands for "
            f"the {len(metadata.thing_classes)} of COCO. Set your own data in params.yaml: "
            "`python cli.py profile use custom`, then dataset.train and dataset.val "
            "(docs/own-data.md)"
        ) from error
