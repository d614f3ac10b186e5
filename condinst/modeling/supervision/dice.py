"""Dice loss on masks (https://arxiv.org/abs/1606.04797, with squares in the denominator)."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import Tensor


@dataclass(frozen=True)
class Dice:
    """1 - (2 sum(p t) + numerator) / (sum(p^2) + sum(t^2) + denominator) an instance.

    Attributes:
        numerator: AdelaiDet 0, Epiphqny 1.
        denominator: AdelaiDet 1e-5, Epiphqny 1.
    """

    numerator: float = 0.0
    denominator: float = 1e-5

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dice:
        """Read MODEL.CONDINST."""
        return cls(cfg.MODEL.CONDINST.DICE_NUMERATOR, cfg.MODEL.CONDINST.DICE_DENOMINATOR)

    def __call__(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        """(K, h, w) probabilities and 0/1 targets -> (K,) losses."""
        p, t = probabilities.flatten(1), targets.flatten(1).to(probabilities.dtype)
        return self.from_sums((p * t).sum(1), (p * p).sum(1), t.sum(1))

    def from_sums(self, product: Tensor, squares: Tensor, area: Tensor) -> Tensor:
        """The losses from each instance's sum(p t), sum(p^2) and sum(t) = sum(t^2), (K,) each."""
        return 1 - (2 * product + self.numerator) / (squares + area + self.denominator)
