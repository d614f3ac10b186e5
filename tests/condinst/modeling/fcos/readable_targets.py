"""The readable matching of locations to boxes: the specification of `targets.assign`.

Tests and benchmarks compare the two. Letters: ``R`` locations of all levels, ``M`` boxes of one
image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condinst.modeling.fcos.targets import FAR, Matching, Targets


def side_distances(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances from locations to boxes' sides, negative outside.

    Args:
        locations: (R, 2).
        boxes: (M, 4), or (R, M, 4) where each location has boxes of its own.

    Returns:
        (R, M, 4) left, top, right, bottom.
    """
    x, y = locations[:, None, 0], locations[:, None, 1]
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack((x - x0, y - y0, x1 - x, y1 - y), dim=-1)


def center_regions(strides: Tensor, boxes: Tensor, centers: Tensor, radius: float) -> Tensor:
    """Squares of ``radius`` strides around the centres, cut to the boxes.

    Args:
        strides: (R,) of the locations.
        boxes: (M, 4).
        centers: (M, 2).
        radius: in strides.

    Returns:
        (R, M, 4).
    """
    reach = (strides * radius)[:, None, None]
    low = torch.maximum(centers - reach, boxes[:, :2])
    high = torch.minimum(centers + reach, boxes[:, 2:])
    return torch.cat((low, high), dim=-1)


def assign_readably(
    locations: list[Tensor],
    boxes: Tensor,
    classes: Tensor,
    centers: Tensor,
    num_classes: int,
    matching: Matching,
) -> Targets:
    """Match the locations of one image to its boxes.

    A location is a candidate for a box if it lies strictly inside (its centre region, or the box
    without centre sampling) and the largest of its distances to the whole box lies in its level's
    range. Of several boxes the smallest wins, of equal ones the first.

    Args:
        locations: (R_level, 2) a level.
        boxes: (M, 4); M may be 0.
        classes: (M,).
        centers: (M, 2), used with centre sampling.
        num_classes: the background label.
        matching: the rules.
    """
    counts = [len(x) for x in locations]
    points = torch.cat(locations)
    labels = classes.new_full((len(points),), num_classes)
    if len(boxes) == 0:
        return Targets(labels, points.new_zeros(len(points), 4), labels.new_zeros(len(points)))
    strides = _per_location(points, matching.strides, counts)
    ranges = matching.ranges()
    low = _per_location(points, [a for a, _ in ranges], counts)
    high = _per_location(points, [b for _, b in ranges], counts)

    distances = side_distances(points, boxes)  # (R, M, 4)
    inside = distances
    if matching.center_sample:
        inside = side_distances(points, center_regions(strides, boxes, centers, matching.radius))
    largest = distances.amax(-1)  # (R, M)
    candidate = (inside.amin(-1) > 0) & (largest >= low[:, None]) & (largest <= high[:, None])

    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest, index = torch.where(candidate, areas, FAR).min(dim=1)  # (R,)
    labels = torch.where(smallest < FAR, classes[index], labels)
    chosen = distances[torch.arange(len(points), device=points.device), index]
    return Targets(labels, chosen / strides[:, None], index)


def _per_location(
    like: Tensor, values: list[float] | tuple[float, ...], counts: list[int]
) -> Tensor:
    """One value a level, repeated for the level's locations."""
    return torch.cat([like.new_full((n,), v) for v, n in zip(values, counts, strict=True)])
