"""Registering an index with detectron2 under a name."""

from __future__ import annotations

from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from condinst.data.index import open_index


def register_index(name: str, index_dir: str | Path) -> None:
    """Register an index in both of detectron2's catalogs; a name in use gets the new meaning.

    Args:
        name: for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        index_dir: what :func:`condinst.data.build_index` wrote.

    Raises:
        UserError: there is no complete index.
    """
    directory = Path(index_dir).resolve()
    index = open_index(directory)
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    DatasetCatalog.register(name, lambda: open_index(directory))
    MetadataCatalog.get(name).set(
        thing_classes=[category["name"] for category in index.categories],
        thing_dataset_id_to_contiguous_id={
            category["id"]: k for k, category in enumerate(index.categories)
        },
        json_file=str(directory / "annotations.json"),
        image_root=str(index.image_root),
        evaluator_type="coco",
    )
