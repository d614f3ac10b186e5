"""Which box each location learns, as pure functions.

Letters: ``R`` locations of all levels, ``M`` boxes of one image. Boxes and distances are in pixels
    of the
padded image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from condinst.errors import UserError

FAR = 1e8  # upper end of the coarsest level's range, and an area larger than any box


@dataclass(frozen=True)
class Matching:
    """How locations are matched to boxes.

    Attributes:
        strides: one per level, pixels.
        sizes: limits between the levels' ranges, pixels; one fewer than levels.
        center_sample: whether only locations near a box's centre are candidates.
        radius: how near, in strides.
    """

    strides: tuple[int, ...]
    sizes: tuple[float, ...]
    center_sample: bool
    radius: float

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Matching:
        """Read MODEL.FCOS.

        Raises:
            UserError: the numbers of levels, strides and sizes do not match.
        """
        node = cfg.MODEL.FCOS
        levels, strides = list(node.IN_FEATURES), list(node.FPN_STRIDES)
        sizes = list(node.SIZES_OF_INTEREST)
        if len(strides) != len(levels) or len(sizes) != len(levels) - 1:
            raise UserError(
                f"MODEL.FCOS: IN_FEATURES {levels}, FPN_STRIDES {strides} and SIZES_OF_INTEREST "
                f"{sizes} do not match: every level needs a stride, and all but one a size"
            )
        return cls(tuple(strides), tuple(sizes), node.CENTER_SAMPLE, node.POS_RADIUS)

    def ranges(self) -> list[tuple[float, float]]:
        """Each level's range of the largest distance, both ends included."""
        limits = [-1.0, *map(float, self.sizes), FAR]
        return list(pairwise(limits))


class Targets(NamedTuple):
    """What each location learns.

    Attributes:
        labels: (R,) class, or the number of classes for background.
        distances: (R, 4) left, top, right, bottom to the box's sides in units of the level's
            stride.
        boxes: (R,) index of the box; meaningless on background.
    """

    labels: Tensor
    distances: Tensor
    boxes: Tensor


def assign(
    locations: list[Tensor],
    boxes: Tensor,
    classes: Tensor,
    centers: Tensor,
    num_classes: int,
    matching: Matching,
) -> Targets:
    """Match the locations of one image to its boxes.

    A location is a candidate for a box if it lies strictly inside it (or, with centre sampling,
    inside its centre region) and its largest distance to the sides of the whole box is in its
    level's range. Of several boxes the smallest wins, of equal ones the first.

    The same as `assign_readably` in the tests, but columns and rows are tested separately, and
    only the candidates' areas are compared.

    Args:
        locations: (R_level, 2) per level: a grid, row by row.
        boxes: (M, 4); M may be 0.
        classes: (M,).
        centers: (M, 2), used with centre sampling.
        num_classes: the background label.
        matching: the rules.
    """
    points = torch.cat(locations)
    labels = classes.new_full((len(points),), num_classes)
    if len(boxes) == 0:
        return Targets(labels, points.new_zeros(len(points), 4), labels.new_zeros(len(points)))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = areas.argsort(stable=True)
    none = len(boxes)
    best, first = labels.new_full((len(points),), none), 0  # position in ``order``
    for level, (grid, limits) in enumerate(zip(locations, matching.ranges(), strict=True)):
        reach = matching.strides[level] * matching.radius if matching.center_sample else None
        candidate = _candidates(grid, boxes[order], centers[order], reach, limits)
        candidate &= (areas[order] < FAR)[:, None, None]
        places, cells = candidate.flatten(1).nonzero(as_tuple=True)
        best[first : first + len(grid)].scatter_reduce_(0, cells, places, "amin")
        first += len(grid)
    positive = best < none
    index = torch.where(positive, order[best.clamp(max=none - 1)], 0)
    labels = torch.where(positive, classes[index], labels)
    chosen = boxes[index]
    distances = torch.cat((points - chosen[:, :2], chosen[:, 2:] - points), dim=1)
    counts = [len(x) for x in locations]
    strides = torch.cat(
        [points.new_full((n,), s) for n, s in zip(counts, matching.strides, strict=True)]
    )
    return Targets(labels, distances / strides[:, None], index)


def _candidates(
    grid: Tensor,
    boxes: Tensor,
    centers: Tensor,
    reach: float | None,
    limits: tuple[float, float],
) -> Tensor:
    """Which cells (M, h, w) of a level's grid (h w, 2) are candidates for which box.

    Args:
        grid: row by row.
        boxes: (M, 4).
        centers: (M, 2).
        reach: pixels around the centres; None: as far as the boxes.
        limits: of the largest distance, both included.
    """
    width = int((grid[:, 1] == grid[0, 1]).sum()) if len(grid) else 1
    inside, large, small = [], [], []
    for axis, line in enumerate((grid[:width, 0], grid[::width, 1])):
        low, high = boxes[:, None, axis], boxes[:, None, axis + 2]  # (M, 1)
        farthest = torch.maximum(line - low, high - line)  # (M, w) or (M, h)
        large.append(farthest >= limits[0])
        small.append(farthest <= limits[1])
        if reach is not None:
            middle = centers[:, None, axis]
            low, high = torch.maximum(middle - reach, low), torch.minimum(middle + reach, high)
        inside.append((line - low > 0) & (high - line > 0))
    columns, rows = (inside[axis] & small[axis] for axis in (0, 1))
    return columns[:, None, :] & rows[:, :, None] & (large[0][:, None, :] | large[1][:, :, None])


def level_first(per_image: list[Tensor], counts: list[int]) -> Tensor:
    """Reorder (R, ...) of each image to level, image, location: (B R, ...), as `flatten` does."""
    split = [x.split(counts) for x in per_image]
    return torch.cat([x for level in zip(*split, strict=True) for x in level])
