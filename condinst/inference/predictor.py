"""Detections in images of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from condinst.data.input_config import deep_ranges
from condinst.data.resizing import resize_for_test
from condinst.inference.inference_copy import inference_copy
from condinst.modeling.detector import CondInst

WeightsLoader = Callable[[nn.Module, str], object]


class Predictor:
    """A model ready for prediction.

    Args:
        cfg: The whole config; ``INPUT.MIN_SIZE_TEST``, ``MAX_SIZE_TEST`` and ``FORMAT`` define
            the model's input.
        weights: A file; None leaves the model with its random weights.
        load_weights: Loads a file's weights into the model; detectron2's loader by default.
        score_threshold: Instances below it are left out.
        precision: Of a CondInst's convolutions, as in `inference_copy`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        weights: str | Path | None,
        *,
        load_weights: WeightsLoader | None = None,
        score_threshold: float = 0.0,
        precision: str = "fp32",
    ) -> None:
        self.resize = resize_for_test(cfg)
        self.bgr = cfg.INPUT.FORMAT == "BGR"
        self.ranges = deep_ranges(cfg)  # for the code that reads files
        self.score_threshold = score_threshold
        self.model = build_model(cfg)
        self.load_report: object = None
        if weights is not None:
            self.load_report = (load_weights or _load_by_detectron2)(self.model, str(weights))
        self.model.eval()
        if isinstance(self.model, CondInst):
            self.model = inference_copy(self.model, precision)

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Finds instances in a batch of images, which may differ in size.

        Args:
            images: Each (h, w, 3) uint8 RGB; may be empty.

        Returns:
            For each image its instances on the CPU: ``pred_boxes`` in the image's pixels,
            ``scores``, ``pred_classes``, ``pred_masks`` (K, h, w) bool; best first.
        """
        if not len(images):
            return []
        outputs = self.model([self._model_input(image) for image in images])
        found = [output["instances"].to("cpu") for output in outputs]
        return [self._keep_best(instances) for instances in found]

    def _model_input(self, image: np.ndarray) -> dict[str, object]:
        assert image.ndim == 3, image.shape
        assert image.shape[2] == 3, image.shape
        height, width = image.shape[:2]
        fed = image[..., ::-1] if self.bgr else image
        fed = self.resize.get_transform(fed).apply_image(np.ascontiguousarray(fed))
        pixels = torch.from_numpy(np.ascontiguousarray(fed.transpose(2, 0, 1)))  # (3, h', w')
        return {"image": pixels, "height": height, "width": width}

    def _keep_best(self, instances: Instances) -> Instances:
        order = torch.argsort(instances.scores, descending=True, stable=True)
        kept: Any = order[instances.scores[order] >= self.score_threshold]
        return instances[kept]


def _load_by_detectron2(model: nn.Module, path: str) -> None:
    DetectionCheckpointer(model).load(path)
