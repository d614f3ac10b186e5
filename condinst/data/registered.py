"""Data sets under detectron2's names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from condinst.errors import UserError


def records_of(name: str) -> Sequence[dict[str, Any]]:
    """The records of a registered data set.

    Raises:
        UserError: its file holds other classes than the name stands for.
    """
    with classes_explained(name):
        return DatasetCatalog.get(name)


@contextlib.contextmanager
def classes_explained(*names: str) -> Iterator[None]:
    """Turn detectron2's assertion about classes that changed into a user's error.

    Args:
        names: of the data sets that are read.
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
            f"the {len(metadata.thing_classes)} of COCO. Own data is named in params.yaml: "
            "`python cli.py profile use custom`, then dataset.train and dataset.val "
            "(docs/own-data.md)"
        ) from error
