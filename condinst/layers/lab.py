"""CIE Lab colours of sRGB images.

The constants are those of IEC 61966-2-1 (sRGB's curve and primaries), D65 seen at 2 degrees, and
CIE 15, rounded as in scikit-image's ``rgb2lab``, so that both give the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)  # X, Y, Z of D65


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB values from 0 to 255 to Lab.

    Args:
        rgb: (..., 3, h, w), any type; red first.

    Returns:
        (..., 3, h, w) float32: L from 0 to 100, a and b from about -128 to 127. Computed in double
        precision. Black is (0, 0, 0).
    """
    value = rgb.double() / 255
    linear = torch.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    matrix = value.new_tensor(_TO_XYZ) / value.new_tensor(_WHITE)[:, None]
    xyz = torch.einsum("xc,...chw->...xhw", matrix, linear)
    dark = 7.787 * xyz + 16 / 116
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), dark).unbind(-3)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3).float()
