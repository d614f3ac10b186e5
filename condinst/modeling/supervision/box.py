"""What boxes alone say about masks: BoxInst's two losses (https://arxiv.org/abs/2012.02310).

Letters: ``M`` boxes, ``K`` instances with a loss, ``B`` images, ``H, W`` size of a map at the
stride ``s`` of the losses, ``J`` neighbours of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

from condinst.errors import UserError
from condinst.layers.lab import rgb_to_lab
from condinst.layers.neighbours import neighbour_offsets, neighbours
from condinst.layers.threads import limited
from condinst.modeling.supervision.box_keys import box_problems
from condinst.modeling.supervision.dice import Dice

_DICE = Dice(numerator=0.0, denominator=1e-5)


@dataclass(frozen=True)
class BoxRules:
    """Which pairs of pixels should look alike; see MODEL.BOXINST.

    Attributes:
        bottom_pixels: rows of the original image, from its lower edge, that no pair may reach into.
        size: of the pattern of neighbours, odd.
        dilation: cells between two of them.
        threshold: likeness from which on a pair counts, 0 to 1.
        warmup: training passes over which the pairwise loss grows to its full weight; 0: none.
        channels: the order in which images come, BGR or RGB.
        pairwise: whether pairs count at all; else J = 0 and no colour is compared.
    """

    bottom_pixels: int = 10
    size: int = 3
    dilation: int = 2
    threshold: float = 0.3
    warmup: int = 10000
    channels: str = "BGR"
    pairwise: bool = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> BoxRules:
        """Read MODEL.BOXINST and INPUT.FORMAT.

        Raises:
            UserError: values are out of their range, all of them told at once.
        """
        problems = box_problems(cfg)
        if problems:
            raise UserError("\n".join(problems))
        node, pairwise = cfg.MODEL.BOXINST, cfg.MODEL.BOXINST.PAIRWISE
        return cls(
            node.BOTTOM_PIXELS_REMOVED,
            pairwise.SIZE,
            pairwise.DILATION,
            pairwise.COLOR_THRESH,
            pairwise.WARMUP_ITERS,
            cfg.INPUT.FORMAT,
            pairwise.ENABLED,
        )

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The J neighbours, in cells."""
        return neighbour_offsets(self.size, self.dilation) if self.pairwise else []


class BoxTruth(NamedTuple):
    """What the two losses compare with.

    Attributes:
        spans: (M, 4) of `box_spans`.
        targets: (K,) index of each instance's box.
        alike: (B, J, H, W) bool of `alike_pairs`.
        offsets: the J neighbours, in cells.
    """

    spans: Tensor
    targets: Tensor
    alike: Tensor
    offsets: list[tuple[int, int]]


def box_spans(boxes: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """The rows and columns of a map that each box covers.

    At full size a box covers rows int(y0) to int(y1 + 1) - 1 and columns int(x0) to
    int(x1 + 1) - 1, as far as there are any; the map takes every s-th pixel from s // 2.

    Args:
        boxes: (M, 4) xyxy pixels.
        size: height and width of the padded images.
        stride: s.

    Returns:
        (M, 4) top, bottom, left, right in cells; bottom and right are the first beyond.
    """
    pixels = torch.cat((boxes[:, :2], boxes[:, 2:] + 1), dim=1).long()[:, [1, 3, 0, 2]]
    limits = pixels.new_tensor([size[0], size[0], size[1], size[1]])
    pixels = pixels.clamp(min=0).minimum(limits)
    first = torch.div(pixels - stride // 2 + stride - 1, stride, rounding_mode="floor")
    cells = torch.div(limits - stride // 2 + stride - 1, stride, rounding_mode="floor")
    return first.clamp(min=0).minimum(cells)


def box_masks(spans: Tensor, size: tuple[int, int]) -> Tensor:
    """Spans as (M, H, W) bool."""
    rows = torch.arange(size[0], device=spans.device)
    columns = torch.arange(size[1], device=spans.device)
    top, bottom, left, right = spans[:, :, None].unbind(1)  # (M, 1) each
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    return down[:, :, None] & across[:, None, :]


@torch.no_grad()
def alike_pairs(
    images: Sequence[Tensor],
    heights: Sequence[int],
    size: tuple[int, int],
    stride: int,
    rules: BoxRules,
) -> Tensor:
    """Which neighbours of which pixels are of the same colour, so that one mask should hold both.

    Args:
        images: B of (3, h, w), 0 to 255, not normalised.
        heights: of the original images.
        size: height and width of the padded batch.
        stride: s.
        rules: what counts.

    Returns:
        (B, J, H, W) bool.
    """
    if not rules.pairwise:
        shape = (len(images), 0, -(-size[0] // stride), -(-size[1] // stride))
        return torch.zeros(shape, dtype=torch.bool, device=images[0].device)
    # A score of small operations: threads that wait for one another take longer than one alone.
    with limited(1):
        likeness = [
            likeness_of(*_colours(image, height, size, stride, rules), rules.offsets)
            for image, height in zip(images, heights, strict=True)
        ]
        return torch.stack([one >= rules.threshold for one in likeness])


def _colours(
    image: Tensor, height: int, size: tuple[int, int], stride: int, rules: BoxRules
) -> tuple[Tensor, Tensor]:
    """Lab (3, H, W) of blocks of s x s pixels, and which sampled pixels are valid, (H, W)."""
    h, w = image.shape[-2:]
    padded = F.pad(image.float(), (0, size[1] - w, 0, size[0] - h))
    blocks = F.avg_pool2d(padded[None], stride)[0]
    rgb = blocks if rules.channels == "RGB" else blocks.flip(0)
    removed = int(rules.bottom_pixels * float(h) / float(height))
    rows = torch.arange(stride // 2, size[0], stride, device=image.device) < h - removed
    columns = torch.arange(stride // 2, size[1], stride, device=image.device) < w
    return rgb_to_lab(rgb.byte()), (rows[:, None] & columns).float()


def likeness_of(lab: Tensor, valid: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """exp(-|Lab_i - Lab_j| / 2) times the validity of j; beyond the map colours and validity are 0.

    Args:
        lab: (3, H, W).
        valid: (H, W) zeros and ones.
        offsets: the J neighbours.

    Returns:
        (J, H, W).
    """
    # On a CPU, norm(dim=0) takes five times as long.
    distance = neighbours(lab, offsets).sub_(lab[:, None]).square_().sum(0).sqrt()
    return (-distance * 0.5).exp() * neighbours(valid, offsets)


def count_pairs(spans: Tensor, images: Tensor, alike: Tensor) -> Tensor:
    """Pairs that count in each of K boxes.

    Args:
        spans: (K, 4).
        images: (K,) index of the image.
        alike: (B, J, H, W).

    Returns:
        (K,) int64.
    """
    sums = F.pad(alike.sum(1).cumsum(1).cumsum(2), (1, 0, 1, 0))  # (B, H + 1, W + 1)
    top, bottom, left, right = spans.unbind(1)
    bottom, right = bottom.maximum(top), right.maximum(left)

    def corner(row: Tensor, column: Tensor) -> Tensor:
        return sums[images, row, column]

    return corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)


def projection_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice of the masks' shadows along both axes.

    Args:
        logits: (K, H, W).
        masks: (K, H, W) bool, the boxes.

    Returns:
        (K,): dice of the maxima over rows plus dice of the maxima over columns.
    """
    p, target = logits.sigmoid(), masks.float()
    across = _DICE(p.max(1).values, target.max(1).values)
    return across + _DICE(p.max(2).values, target.max(2).values)


def shadow_losses(down: Tensor, across: Tensor, spans: Tensor) -> Tensor:
    """`projection_losses` of those who have the maxima already.

    Args:
        down: (K, W) the largest probability of every column.
        across: (K, H) of every row.
        spans: (K, 4) of the boxes.

    Returns:
        (K,).
    """
    top, bottom, left, right = spans[:, :, None].unbind(1)  # (K, 1) each
    any_cell = (bottom > top) & (right > left)
    columns = torch.arange(down.shape[1], device=down.device)
    rows = torch.arange(across.shape[1], device=down.device)
    return _DICE(down, any_cell & (columns >= left) & (columns < right)) + _DICE(
        across, any_cell & (rows >= top) & (rows < bottom)
    )


def pairwise_losses(
    logits: Tensor, masks: Tensor, alike: Tensor, offsets: list[tuple[int, int]]
) -> Tensor:
    """-log of the probability that two pixels are both inside or both outside, over like pairs.

    Args:
        logits: (K, H, W).
        masks: (K, H, W) bool, the boxes: where the first pixel of a pair lies.
        alike: (K, J, H, W) bool, of each instance's image.
        offsets: the J neighbours. Beyond the map both log-probabilities are 0.

    Returns:
        (K,) sums.
    """
    if not offsets:
        return logits.new_zeros(len(logits))
    inside, outside = F.logsigmoid(logits), F.logsigmoid(-logits)
    both_in = inside[:, None] + neighbours(inside, offsets)  # (K, J, H, W)
    both_out = outside[:, None] + neighbours(outside, offsets)
    losses = -torch.logaddexp(both_in, both_out)
    return (losses * (alike & masks[:, None])).sum((1, 2, 3))
