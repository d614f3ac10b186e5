"""Comparing a model with recorded numbers: losses, gradient norms, SGD steps, detections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from pycocotools import mask as coco_mask
from torch import nn

Case = dict[str, Any]


class Step(NamedTuple):
    """The worst relative errors of one training step, and the model's gradients by our names."""

    loss_error: float
    gradients: dict[str, torch.Tensor]


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


def relative(found: float, wanted: float) -> float:
    """|found - wanted| / |wanted|."""
    return abs(found - wanted) / max(abs(wanted), 1e-12)


def train_step(model: nn.Module, case: Case) -> Step:
    """One step forward and backward; the loss names must be the recorded ones."""
    losses = model.train()(model_inputs(case))
    assert set(losses) == set(case["train_losses"])
    torch.stack(list(losses.values())).sum().backward()
    error = max(relative(losses[k].item(), v) for k, v in case["train_losses"].items())
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return Step(error, gradients)


def gradient_error(gradients: dict[str, torch.Tensor], recorded: dict[str, float]) -> float:
    """Worst relative error of the norms, beyond rounding noise.

    A bias under a normalisation has no gradient but rounding errors, some 1e-7 of the largest.
    """
    noise = 2e-7 * max(recorded.values())
    worst = 0.0
    for name, wanted in recorded.items():
        found = gradients[name].double().norm().item()
        worst = max(worst, (abs(found - wanted) - noise) / max(wanted, 1e-12))
    return worst


def curve_errors(model: nn.Module, case: Case) -> list[float]:
    """Worst relative error of the loss terms at each recorded step of plain SGD."""
    parameters = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=case["sgd"]["lr"])
    inputs, errors = model_inputs(case), []
    for wanted in case["sgd"]["losses"]:
        losses = model(inputs)
        errors.append(max(relative(losses[k].item(), v) for k, v in wanted.items()))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return errors


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
