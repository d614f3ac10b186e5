"""A model's detections on a whole dataset, in COCO's result format."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.common import MapDataset
from detectron2.structures import Instances
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

from condinst.data.mapper import CondInstDatasetMapper
from condinst.data.registered import records_of
from condinst.modeling.mask_head.rle import encode_masks


def predict_dataset(
    model: nn.Module,
    dataset_name: str,
    cfg: CfgNode,
    progress: bool = True,
    *,
    batch_size: int = 1,
) -> list[dict[str, Any]]:
    """Runs a model over a registered dataset.

    Masks are encoded as soon as their image is done, so memory does not grow with the dataset. A
    model that has ``masks_as_runs`` (ours) is asked for runs: full masks are then never made.

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
    entries = records_of(dataset_name)
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
        instances: `pred_boxes`, `scores`, `pred_classes` and maybe `pred_masks` (K, h, w), or
            their runs as `pred_rles`.
        image_id: Of the image.
        category_ids: The dataset's id of each contiguous class; the class itself if None.
    """
    boxes = instances.pred_boxes.tensor.detach().cpu().double().numpy()  # (K, 4)
    scores = instances.scores.detach().cpu().double().tolist()
    classes = instances.pred_classes.cpu().tolist()
    encoded: list[Any] | None = None
    if instances.has("pred_rles"):
        encoded = instances.pred_rles
    elif instances.has("pred_masks"):
        encoded = encode_masks(instances.pred_masks)
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
    inner: Any = getattr(model, "module", model)  # of a distributed model
    able = hasattr(inner, "masks_as_runs")
    before = able and inner.masks_as_runs
    model.eval()
    if able:
        inner.masks_as_runs = True
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        if able:
            inner.masks_as_runs = before


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
