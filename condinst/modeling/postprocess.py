"""From detections in the resized image to instances in the original one.

Letters: ``K`` detections of one image.
"""

from __future__ import annotations

from detectron2.structures import Boxes, Instances
from torch import Tensor

from condinst.modeling.fcos.decode import Detections
from condinst.modeling.mask_head.rle import Rle


def to_original(
    found: Detections, image_size: tuple[int, int], output_size: tuple[int, int]
) -> tuple[Detections, Boxes]:
    """Scale boxes to the original image, clip them, and drop those that become empty.

    Args:
        found: detections in the resized image.
        image_size: its height and width, without padding.
        output_size: height and width of the original.

    Returns:
        The detections that remain (boxes still in the resized image), and their boxes in the
        original.
    """
    boxes = Boxes(found.boxes.clone())
    boxes.scale(output_size[1] / image_size[1], output_size[0] / image_size[0])
    boxes.clip(output_size)
    keep = boxes.nonempty()
    return found.take(keep), boxes[keep]


def make_instances(
    found: Detections, boxes: Boxes, output_size: tuple[int, int], masks: Tensor | list[Rle] | None
) -> Instances:
    """detectron2's result for one image.

    With ``pred_masks`` (K, h, w) if masks are given, with ``pred_rles`` if they are given as runs.
    """
    result = Instances(output_size)
    result.pred_boxes = boxes
    result.scores = found.scores
    result.pred_classes = found.classes
    if isinstance(masks, Tensor):
        result.pred_masks = masks
    elif masks is not None:
        result.pred_rles = masks
    return result
