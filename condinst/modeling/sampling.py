"""Positive locations, and which of them get a mask loss.

Letters: ``P`` positives, ``K`` those kept, ``N`` parameters that the controller predicts for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor


class Positives(NamedTuple):
    """The positive locations of a batch, ordered by level, image and cell.

    Attributes:
        params: (P, N) from the controller.
        images: (P,) index of the image.
        instances: (P,) index of the instance, counted across the batch.
        levels: (P,) index of the pyramid level.
        locations: (P, 2) pixels.
        scores: (P,) best class probability times box quality.
    """

    params: Tensor
    images: Tensor
    instances: Tensor
    levels: Tensor
    locations: Tensor
    scores: Tensor

    def take(self, index: Tensor) -> Positives:
        """The positives at ``index``."""
        return Positives(*(x[index] for x in self))


@dataclass(frozen=True)
class Sampling:
    """Limits on the instances that get a mask loss.

    Attributes:
        max_proposals: at most this many random ones per worker; negative: no limit.
        top_per_image: at most about this many per image, shared evenly among its instances, the
            best-scoring of each; -1: no limit. Used only if ``max_proposals`` has no effect.
    """

    max_proposals: int = -1
    top_per_image: int = -1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Sampling:
        """Read MODEL.CONDINST."""
        return cls(cfg.MODEL.CONDINST.MAX_PROPOSALS, cfg.MODEL.CONDINST.TOPK_PROPOSALS_PER_IM)


def sample(positives: Positives, sampling: Sampling) -> Positives:
    """Keep as many as the limits allow; random draws come from torch's global generator."""
    count = len(positives.params)
    if 0 <= sampling.max_proposals < count:
        order = torch.randperm(count, device=positives.params.device)
        return positives.take(order[: sampling.max_proposals])
    if sampling.top_per_image == -1 or count == 0:
        return positives
    kept = []
    for image in positives.images.unique():
        of_image = (positives.images == image).nonzero(as_tuple=True)[0]
        kept.extend(_best_of_each(of_image, positives, sampling.top_per_image))
    return positives.take(torch.cat(kept))


def _best_of_each(of_image: Tensor, positives: Positives, limit: int) -> list[Tensor]:
    """Indices of each instance's best positives; ``of_image`` indexes those of one image."""
    instances = positives.instances[of_image]
    unique = instances.unique()
    share = max(limit // len(unique), 1)
    kept = []
    for instance in unique:
        mine = of_image[instances == instance]
        if len(mine) > share:
            mine = mine[positives.scores[mine].topk(share).indices]
        kept.append(mine)
    return kept
