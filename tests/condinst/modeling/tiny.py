"""A CondInst that builds and runs in a blink, and inputs for it."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from condinst.config import get_cfg

NUM_CLASSES = 3


def tiny_cfg(*overrides: Any) -> CfgNode:
    """A narrow ResNet-50, 64 channels, BN that trains."""
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "CondInst", "MODEL.DEVICE", "cpu", "MODEL.MASK_ON", True),
            *("MODEL.BACKBONE.NAME", "build_fcos_resnet_fpn_backbone"),
            *("MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.PIXEL_STD", [57.0, 57.0, 57.0]),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.STEM_OUT_CHANNELS", 8),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
            *("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"], "MODEL.FPN.OUT_CHANNELS", 64),
            *("MODEL.FCOS.NUM_CLASSES", NUM_CLASSES, "MODEL.FCOS.NUM_CLS_CONVS", 1),
            *("MODEL.FCOS.NUM_BOX_CONVS", 1, "MODEL.FCOS.INFERENCE_TH_TEST", -1.0),
            *("MODEL.FCOS.PRE_NMS_TOPK_TEST", 20, "MODEL.FCOS.POST_NMS_TOPK_TEST", 5),
            *("MODEL.CONDINST.MASK_BRANCH.CHANNELS", 16, "MODEL.CONDINST.MASK_BRANCH.NUM_CONVS", 1),
        ]
    )
    cfg.merge_from_list(list(overrides))
    return cfg


def tiny_model(*overrides: Any, seed: int = 0) -> nn.Module:
    """The model of `tiny_cfg` with seeded weights, large enough for its outputs to differ."""
    torch.manual_seed(seed)
    model = build_model(tiny_cfg(*overrides))
    for name in ("cls_logits", "bbox_pred", "ctrness"):
        nn.init.normal_(model.fcos_head.get_submodule(name).weight, std=0.1)
    nn.init.constant_(model.fcos_head.bbox_pred.bias, 2.0)
    if model.controller is not None:
        nn.init.normal_(model.controller.weight, std=0.1)
    return model


def rectangles(h: int, w: int, boxes: list[tuple[int, int, int, int]]) -> Instances:
    """Instances whose masks are their boxes (x0, y0, x1, y1), classes counting up."""
    masks = torch.zeros(len(boxes), h, w, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    instances = Instances((h, w))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(boxes)) % NUM_CLASSES
    instances.gt_masks = BitMasks(masks)
    return instances


def noise_image(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """(3, h, w) uint8 noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=generator)


def example(
    h: int, w: int, boxes: list[tuple[int, int, int, int]], seed: int = 0
) -> dict[str, Any]:
    """One training input."""
    return {"image": noise_image(h, w, seed), "instances": rectangles(h, w, boxes)}
