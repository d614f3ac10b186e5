"""Comparing a model's detections with recorded ones; `descent` compares its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from pycocotools import mask as coco_mask
from torch import nn

from condinst.checkpoint.loading import load_state
from condinst.config import load_config

Case = dict[str, Any]
RECIPES = Path(__file__).parents[2] / "configs"
RECORDED = {
    "adelaidet_r50": "CondInst/MS_R_50_1x.yaml",
    "adelaidet_r50_sem": "CondInst/MS_R_50_3x_sem.yaml",
    "adelaidet_r50_bifpn": "CondInst/MS_R_50_BiFPN_1x.yaml",
    "epiphqny_r50": "CondInst/epiphqny/R_50_1x.yaml",
    "adelaidet_boxinst": "BoxInst/MS_R_50_1x.yaml",
    "adelaidet_boxinst_options": "BoxInst/MS_R_50_3x.yaml",
}

LEAST_SHARE = 0.98  # of detections with a partner


def recorded_case(folder: Path, name: str) -> Case:
    """One of `RECORDED` from the folder of recordings."""
    case = torch.load(folder / f"{name}.pt", weights_only=True)
    return case | {"name": name, "recipe": RECORDED[name]}


def recorded_model(case: Case) -> nn.Module:
    """A new model with a recorded case's weights."""
    model = build_model(load_config(RECIPES / case["recipe"], case["options"]))
    load_state(model, case["state_dict"])
    return model


def model_inputs(case: Case) -> list[dict[str, Any]]:
    """A case's images and ground truth as the model takes them."""
    made = []
    for x in case["inputs"]:
        instances = Instances(tuple(x["image"].shape[1:]))
        instances.gt_boxes = Boxes(x["gt_boxes"].clone())
        instances.gt_classes = x["gt_classes"]
        instances.gt_masks = BitMasks(x["gt_masks"])
        sizes = {"height": x["height"], "width": x["width"]}
        made.append({"image": x["image"], "instances": instances, **sizes})
    return made


@torch.no_grad()
def detect(model: nn.Module, case: Case) -> list[Instances]:
    """Inference, one image a call."""
    return [model.eval()([x])[0]["instances"] for x in model_inputs(case)]


def share_matched(found: Iterable[Instances], recorded: Iterable[dict[str, Any]]) -> float:
    """Share of detections with a partner: same class, close score and box, mask IoU over 0.999."""
    total = matched = 0
    for ours, theirs in zip(found, recorded, strict=True):
        total += max(len(ours), len(theirs["scores"]))
        masks = [encode(m) for m in ours.pred_masks]
        free = set(range(len(ours)))
        for j in range(len(theirs["scores"])):
            close = (
                (ours.pred_classes == theirs["classes"][j])
                & ((ours.scores - theirs["scores"][j]).abs() <= 1e-4)
                & ((ours.pred_boxes.tensor - theirs["boxes"][j]).abs().amax(1) <= 0.05)
            ).nonzero()[:, 0]
            same = _same_as(theirs["masks"][j])
            partner = next((k for k in close.tolist() if k in free and same(masks[k])), None)
            if partner is not None:
                free.remove(partner)
                matched += 1
    return matched / max(total, 1)


def encode(mask: torch.Tensor) -> dict[str, Any]:
    """(h, w) bool -> COCO RLE."""
    return coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))


def _same_as(wanted: dict[str, Any]) -> Callable[[dict[str, Any]], bool]:
    def same(mask: dict[str, Any]) -> bool:
        if not coco_mask.area(mask) and not coco_mask.area(wanted):
            return True
        return coco_mask.iou([mask], [wanted], [0])[0, 0] >= 0.999

    return same
