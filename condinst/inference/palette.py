"""Colours of classes: the same class has the same colour in every image and chart."""

from __future__ import annotations

import colorsys
from typing import NamedTuple


class Color(NamedTuple):
    """An sRGB colour, 0 to 255 each."""

    red: int
    green: int
    blue: int

    @property
    def luminance(self) -> float:
        """Relative luminance as WCAG 2 defines it, 0 to 1."""
        linear = [
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
            for value in (channel / 255 for channel in self)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    @property
    def ink(self) -> Color:
        """Near-black or white, whichever is easier to read on this colour."""
        dark_contrast = (self.luminance + 0.05) / (_DARK_LUMINANCE + 0.05)
        return DARK if dark_contrast >= 1.05 / (self.luminance + 0.05) else WHITE

    def towards(self, other: Color, share: float) -> Color:
        """A mixture; ``share`` 0 is this colour, 1 the other."""
        return Color(*(round(a + (b - a) * share) for a, b in zip(self, other, strict=True)))


WHITE = Color(255, 255, 255)
DARK = Color(20, 23, 28)
_DARK_LUMINANCE = 0.0085
_LEAST_LUMINANCE = 0.2

# Vivid enough for photographs, far from their neighbours in the list, and without grey or brown,
# which images are full of.
_CHOSEN = (
    "2f8cff", "ff7a1a", "12b886", "f0386b", "9b5cff", "f5c211", "00bcd4", "e64ad8",
    "7ac70c", "ff5a5f", "3d5afe", "00c49a", "ffa94d", "b5179e", "4cc9f0", "c0ca33",
)  # fmt: skip
_GOLDEN = 0.61803398875


def class_color(index: int) -> Color:
    """The colour of a class by its contiguous index.

    The first sixteen are chosen by hand; the others step through the hues by the golden ratio, so
    that any number of classes stays as far apart as possible.
    """
    assert index >= 0, index
    if index < len(_CHOSEN):
        code = _CHOSEN[index]
        return Color(*(int(code[i : i + 2], 16) for i in (0, 2, 4)))
    step = index - len(_CHOSEN)
    lightness = (0.58, 0.50, 0.68)[step % 3]
    saturation = (0.85, 0.70)[step // 3 % 2]
    rgb = colorsys.hls_to_rgb((0.03 + step * _GOLDEN) % 1, lightness, saturation)
    color = Color(*(round(channel * 255) for channel in rgb))
    while color.luminance < _LEAST_LUMINANCE:  # blues are dark at the lightness of greens
        color = color.towards(WHITE, 0.12)
    return color
