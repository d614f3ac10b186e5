"""From predictions to boxes: threshold, top-k per level, class-wise NMS, best of the image.

Letters: ``R_l`` locations of a level, ``N`` detections of one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.layers import batched_nms
from torch import Tensor

from condinst.modeling.fcos.head import HeadOutput


@dataclass(frozen=True)
class DecodeSettings:
    """Thresholds of inference.

    Attributes:
        score_threshold: candidates must score more than this.
        quality_first: multiply by the box quality before the threshold, not after it.
        pre_nms: candidates kept per level.
        nms_threshold: IoU above which the lower-scoring box of a class is dropped.
        post_nms: detections kept per image; ties with the last one stay. 0 or less: all.
    """

    score_threshold: float = 0.05
    quality_first: bool = False
    pre_nms: int = 1000
    nms_threshold: float = 0.6
    post_nms: int = 100

    @classmethod
    def from_config(cls, cfg: CfgNode) -> DecodeSettings:
        """Read MODEL.FCOS's keys for test time."""
        node = cfg.MODEL.FCOS
        return cls(
            score_threshold=node.INFERENCE_TH_TEST,
            quality_first=node.THRESH_WITH_CTR,
            pre_nms=node.PRE_NMS_TOPK_TEST,
            nms_threshold=node.NMS_TH,
            post_nms=node.POST_NMS_TOPK_TEST,
        )


class Detections(NamedTuple):
    """Boxes of one image in its own (resized) frame, best first.

    Attributes:
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        classes: (N,).
        locations: (N, 2) pixels.
        levels: (N,) index of the pyramid level.
        cells: (N,) index of the location within its level, row by row.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    locations: Tensor
    levels: Tensor
    cells: Tensor

    def take(self, index: Tensor) -> Detections:
        """The detections at ``index`` (indices or a mask)."""
        return Detections(*(x[index] for x in self))


def decode(
    out: HeadOutput, locations: list[Tensor], strides: tuple[int, ...], settings: DecodeSettings
) -> list[Detections]:
    """Detect in every image of a batch.

    Args:
        out: the head's predictions.
        locations: (R_l, 2) per level.
        strides: one per level.
        settings: the thresholds.
    """
    found = []
    for image in range(len(out.logits[0])):
        levels = [
            _decode_level(
                level,
                out.logits[level][image].flatten(1).T.float(),
                out.distances[level][image].flatten(1).T.float() * strides[level],
                out.quality[level][image].flatten().float(),
                locations[level],
                settings,
            )
            for level in range(len(strides))
        ]
        merged = Detections(*(torch.cat(parts) for parts in zip(*levels, strict=True)))
        found.append(_suppress(merged, settings))
    return found


def _decode_level(
    level: int,
    logits: Tensor,
    distances: Tensor,
    quality: Tensor,
    locations: Tensor,
    settings: DecodeSettings,
) -> Detections:
    """Candidates of one level: (R_l, classes), (R_l, 4) in pixels, (R_l,), (R_l, 2)."""
    probability, weight = logits.sigmoid(), quality.sigmoid()[:, None]
    product = probability * weight
    kept = (product if settings.quality_first else probability) > settings.score_threshold
    cells, classes = kept.nonzero(as_tuple=True)
    scores = product[cells, classes]
    if len(scores) > settings.pre_nms:
        scores, best = scores.topk(settings.pre_nms, sorted=False)
        cells, classes = cells[best], classes[best]
    x, y = locations[cells].unbind(1)
    left, top, right, bottom = distances[cells].unbind(1)
    boxes = torch.stack((x - left, y - top, x + right, y + bottom), dim=1)
    levels = torch.full_like(cells, level)
    return Detections(boxes, scores.sqrt(), classes, locations[cells], levels, cells)


def _suppress(found: Detections, settings: DecodeSettings) -> Detections:
    keep = batched_nms(found.boxes, found.scores, found.classes, settings.nms_threshold)
    found = found.take(keep)
    if 0 < settings.post_nms < len(found.scores):
        last = found.scores.topk(settings.post_nms).values[-1]
        found = found.take(found.scores >= last)
    return found
