"""Where each weight and bias of an instance's network lies among its predicted parameters.

Order (AdelaiDet's, ours): the weights of all layers, then the biases of all layers; a layer's
weights row by row. The first layer's inputs are x, y, then the mask features. The paper's network
needs 169 = (8 + 2) * 8 + 8 * 8 + 8 + 8 + 8 + 1 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from condinst.errors import UserError


@dataclass(frozen=True)
class HeadLayout:
    """Size of the network.

    Attributes:
        features: mask features in.
        coords: coordinates in, 2 or 0.
        width: channels of the hidden layers.
        depth: number of 1x1 convolutions, at least 1.
    """

    features: int = 8
    coords: int = 2
    width: int = 8
    depth: int = 3

    def __post_init__(self) -> None:
        if self.features + self.coords == 0:
            raise UserError(
                "mask heads have no input: MODEL.CONDINST.USE_MASK_FEATURES is False and "
                "COORDINATES is none; turn one of them on"
            )
        if self.depth < 1 or self.width < 1:
            raise UserError(
                f"MODEL.CONDINST.MASK_HEAD: NUM_LAYERS = {self.depth}, CHANNELS = {self.width}: "
                "use at least 1 of each"
            )

    @property
    def channels(self) -> list[int]:
        """Channels before, between and after the layers, such as [10, 8, 8, 1]."""
        return [self.features + self.coords, *[self.width] * (self.depth - 1), 1]

    @property
    def weight_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of every layer."""
        channels = self.channels
        return list(zip(channels[1:], channels[:-1], strict=True))

    @property
    def num_params(self) -> int:
        """Numbers an instance needs, N."""
        return sum(o * i + o for o, i in self.weight_shapes)

    def split(self, params: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Split the predicted parameters into weights and biases.

        Args:
            params: (K, N).

        Returns:
            Weights (K, out, in) and biases (K, out) of every layer.
        """
        assert params.shape[1] == self.num_params, (params.shape, self)
        shapes = self.weight_shapes
        sizes = [o * i for o, i in shapes] + [o for o, _ in shapes]
        parts = params.split(sizes, dim=1)
        weights = [p.unflatten(1, s) for p, s in zip(parts[: self.depth], shapes, strict=True)]
        return weights, list(parts[self.depth :])
