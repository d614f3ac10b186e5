"""A model and a data set small enough to train on in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from condinst.layers.distributed import reduce_mean

IMAGES = 10


@META_ARCH_REGISTRY.register()
class ToyDetector(nn.Module):
    """Has batch norm, dropout and two losses, which is all that a trainer can get wrong."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.fail_at = cfg.TOY_FAIL_AT
        self.calls = 0
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = torch.stack([one["image"] for one in batch]).float()
        maps = self.drop(self.norm(self.conv(images)))
        self.calls += 1
        self.mean.lerp_(reduce_mean(images.mean()), 0.1)  # the same in all workers
        scale = float("nan") if self.calls == self.fail_at else 1.0
        return {
            "loss_a": (maps.mean((1, 2, 3)) - images.mean((1, 2, 3)) * scale).square().mean(),
            "loss_b": 0.1 * (maps - self.mean).abs().mean(),
        }


def toy_mapper(record: dict[str, Any]) -> dict[str, Any]:
    """Noise from numpy's global generator, as detectron2's augmentations use it."""
    image = np.full((3, 8, 8), record["image_id"], np.float32) + np.random.rand(3, 8, 8)  # noqa: NPY002
    instances = Instances((8, 8))
    instances.gt_boxes = Boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    instances.gt_classes = torch.tensor([0])
    instances.gt_masks = BitMasks(torch.ones(1, 8, 8, dtype=torch.bool))
    return {**record, "image": torch.from_numpy(image).float(), "instances": instances}


def register_toy_data() -> None:
    """Register ``toy_train`` unless it is there (a new process starts without it)."""
    if "toy_train" not in DatasetCatalog:
        DatasetCatalog.register(
            "toy_train",
            lambda: [
                {
                    "file_name": f"{i}.png",
                    "image_id": i,
                    "width": 8 + i % 2,
                    "height": 8,
                    "annotations": [{"iscrowd": 0, "category_id": 0}],
                }
                for i in range(IMAGES)
            ],
        )


class Stop(HookBase):
    """Stands for a kill before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_step(self) -> None:
        if self.trainer.iter == self.step:
            raise KeyboardInterrupt
