"""A model's detections on a whole dataset, in COCO's result format."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.common import MapDataset
from detectron2.structures import Instances
from pycocotools import mask as rle_tools
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import nn
from torch.utils.data import DataLoader

from condinst.data import CondInstDatasetMapper


def predict_dataset(
    model: nn.Module,
    dataset_name: str,
    cfg: CfgNode,
    progress: bool = True,
    *,
    batch_size: int = 1,
) -> list[dict[str, Any]]:
    """Runs a model over a registered dataset.

    Masks are encoded as soon as their image is done, so memory does not grow with the dataset.

    Args:
        model: Any detectron2 model; put into evaluation mode while it predicts.
        dataset_name: As registered with detectron2.
        cfg: For the mapper and the number of loader processes.
        progress: Show images done and the time left, on stderr.
        batch_size: Images at a time. They are padded to a common size, which changes results
            slightly where the model uses GroupNorm; 1 measures each image as it is.

    Returns:
        Entries with `image_id`, `category_id` in the dataset's own ids, `bbox` (x, y, w, h),
        `score` and, where the model gives masks, `segmentation` (compressed RLE), ordered by
        image as the dataset has them. Images without detections have none.
    """
    entries = DatasetCatalog.get(dataset_name)
    mapped = MapDataset(entries, CondInstDatasetMapper(cfg, False))
    loader = DataLoader(
        mapped,
        batch_size=batch_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list,
    )
    ids = _category_ids(dataset_name)
    results: list[dict[str, Any]] = []
    with _evaluating(model), torch.inference_mode(), _bar(len(entries), progress) as bar:
        for batch in loader:
            for sample, output in zip(batch, model(batch), strict=True):
                results += as_coco(output["instances"], sample["image_id"], ids)
            bar.advance(bar.task_ids[0], len(batch))
    return results


def as_coco(
    instances: Instances, image_id: int, category_ids: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """One image's detections in COCO's result format.

    Args:
        instances: `pred_boxes`, `scores`, `pred_classes` and maybe `pred_masks` (K, h, w).
        image_id: Of the image.
        category_ids: The dataset's id of each contiguous class; the class itself if None.
    """
    boxes = instances.pred_boxes.tensor.detach().cpu().double().numpy()  # (K, 4)
    scores = instances.scores.detach().cpu().double().tolist()
    classes = instances.pred_classes.cpu().tolist()
    encoded: list[dict[str, Any]] | None = None
    if instances.has("pred_masks"):
        masks = instances.pred_masks.detach().cpu().numpy().astype(np.uint8)  # (K, h, w)
        encoded = rle_tools.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    results = []
    for k, (left, top, right, bottom) in enumerate(boxes.tolist()):
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": classes[k] if category_ids is None else category_ids[classes[k]],
            "bbox": [left, top, right - left, bottom - top],
            "score": scores[k],
        }
        if encoded is not None:
            mask = encoded[k]
            entry["segmentation"] = {"size": mask["size"], "counts": mask["counts"].decode()}
        results.append(entry)
    return results


def _category_ids(dataset_name: str) -> list[int] | None:
    mapping = getattr(MetadataCatalog.get(dataset_name), "thing_dataset_id_to_contiguous_id", None)
    if mapping is None:
        return None
    return [category for category, _ in sorted(mapping.items(), key=lambda pair: pair[1])]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _bar(images: int, shown: bool) -> Progress:
    bar = Progress(
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not shown,
    )
    bar.add_task("", total=images)
    return bar
