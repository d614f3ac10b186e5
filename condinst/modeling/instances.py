"""From dense predictions to instances: targets of a batch, positives in training, mask heads.

Letters: ``B`` images, ``R`` locations of all levels and images, ``P`` positive ones, ``K``
detections of one image, ``N`` parameters of one mask head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from condinst.layers.conv import CellConv, conv_at_cells
from condinst.modeling.fcos.decode import Detections
from condinst.modeling.fcos.head import HeadOutput, flatten
from condinst.modeling.fcos.targets import Matching, Targets, assign, level_first
from condinst.modeling.ground_truth import GroundTruth
from condinst.modeling.mask_head.reference import full_precision
from condinst.modeling.mask_head.spec import MaskQuery
from condinst.modeling.sampling import Positives


class BatchTargets(NamedTuple):
    """Targets of all locations, ordered by level, image, cell.

    Attributes:
        labels: (R,) as in `Targets`.
        distances: (R, 4) as in `Targets`.
        boxes: (R,) index of the instance, counted across the batch.
        images: (R,) index of the image.
    """

    labels: Tensor
    distances: Tensor
    boxes: Tensor
    images: Tensor


def assign_batch(
    locations: list[Tensor], truths: list[GroundTruth], num_classes: int, matching: Matching
) -> BatchTargets:
    """Match every image's locations to its instances.

    Args:
        locations: (R_level, 2) per level, the same for all images.
        truths: one per image.
        num_classes: the background label.
        matching: the rules.
    """
    classes = torch.cat([truth.classes for truth in truths])
    wrong = classes[(classes < 0) | (classes >= num_classes)].tolist()
    assert not wrong, (
        f"gt_classes contain {wrong[0]}; the model has the classes 0 to {num_classes - 1}"
    )
    per_image: list[tuple[Tensor, ...]] = []
    first = 0
    for i, truth in enumerate(truths):
        made: Targets = assign(
            locations, truth.boxes, truth.classes, truth.centers, num_classes, matching
        )
        owners = torch.full_like(made.boxes, i)
        per_image.append((made.labels, made.distances, made.boxes + first, owners))
        first += len(truth.boxes)
    counts = [len(x) for x in locations]
    return BatchTargets(*(level_first(list(x), counts) for x in zip(*per_image, strict=True)))


def collect_positives(
    out: HeadOutput,
    controller: nn.Conv2d,
    locations: list[Tensor],
    targets: BatchTargets,
    positive: Tensor,
) -> Positives:
    """The positives' mask heads, and where each belongs.

    Args:
        out: the head's predictions.
        controller: predicts N parameters for each location.
        locations: (R_level, 2) per level.
        targets: of all locations.
        positive: (P,) indices of the positive ones.
    """
    params = parameters_at(controller, out.box_features, positive)
    num_images = len(out.logits[0])
    counts = [len(x) * num_images for x in locations]
    levels = torch.cat([positive.new_full((n,), level) for level, n in enumerate(counts)])
    points = torch.cat([x.repeat(num_images, 1) for x in locations])
    with torch.no_grad():
        scores = flatten(out.logits)[positive].sigmoid().amax(1)
        scores = scores * flatten(out.quality)[positive, 0].sigmoid()
    return Positives(
        params,
        targets.images[positive],
        targets.boxes[positive],
        levels[positive],
        points[positive],
        scores,
    )


def parameters_at(controller: nn.Conv2d, features: list[Tensor], chosen: Tensor) -> Tensor:
    """(P, N) the controller's parameters at P of the R locations, computed nowhere else.

    Args:
        controller: a 3x3 convolution.
        features: (B, C, h, w) per level.
        chosen: (P,) ascending indices, ordered as by `flatten`.
    """
    parts, first = [], 0
    for x in features:
        count = len(x) * x.shape[-2:].numel()
        cells = chosen[(chosen >= first) & (chosen < first + count)] - first
        parts.append(conv_at_cells(controller, x, cells))
        first += count
    return full_precision(torch.cat(parts))


def detection_query(
    out: HeadOutput, controller: nn.Conv2d | CellConv, found: Detections, image: int
) -> MaskQuery:
    """The mask heads of one image's K detections."""
    params = found.boxes.new_zeros(len(found.boxes), controller.out_channels)
    for level, x in enumerate(out.box_features):
        here = (found.levels == level).nonzero(as_tuple=True)[0]
        if len(here):
            cells = found.cells[here]
            if isinstance(controller, CellConv):
                made = controller(x[image], cells)
            else:
                made = controller(x[image][None])[0].flatten(1).T[cells]  # of (h w, N)
            params[here] = made.to(params.dtype)
    images = torch.full_like(found.levels, image)
    return MaskQuery(params, images, found.locations, found.levels)
