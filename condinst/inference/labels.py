"""Labels of overlays: rendering them and placing them so that they do not collide."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from condinst.inference.palette import DARK, Color

_OVERSAMPLING = 4  # Pillow draws rounded corners without anti-aliasing


@dataclasses.dataclass(frozen=True)
class Rectangle:
    """Pixels from (left, top) up to but not including (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: Rectangle) -> int:
        """Area in common, in pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)

    def moved_inside(self, width: int, height: int, margin: int) -> Rectangle:
        """The same rectangle moved into an image of that size, as far as it fits."""
        across, down = self.right - self.left, self.bottom - self.top
        left = max(margin, min(self.left, width - margin - across))
        top = max(margin, min(self.top, height - margin - down))
        return Rectangle(left, top, left + across, top + down)

    def grown(self, by: int) -> Rectangle:
        """Larger by that many pixels on each side."""
        return Rectangle(self.left - by, self.top - by, self.right + by, self.bottom + by)


@functools.lru_cache(maxsize=32)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    # DejaVu Sans comes with matplotlib: the same letters on every machine. Its own search for
    # fonts would import it and read every font of the machine.
    package = importlib.util.find_spec("matplotlib")
    assert package is not None
    assert package.submodule_search_locations
    fonts = Path(package.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


@functools.lru_cache(maxsize=512)
def render_label(name: str, score: str, color: Color, size: int) -> np.ndarray:
    """A rounded tag with a class name and, in lighter letters, its score.

    Args:
        name: Text in bold.
        score: Text behind it; may be empty.
        color: Of the background; the letters are dark or white, whichever can be read.
        size: Of the letters in pixels.

    Returns:
        (height, width, 4) uint8, RGB and opacity.
    """
    scale = _OVERSAMPLING
    strong, light = _font(size * scale, True), _font(round(size * 0.92) * scale, False)
    pad, gap = round(size * 0.42) * scale, round(size * 0.38) * scale if score and name else 0
    name_width, score_width = strong.getlength(name), light.getlength(score)
    ascent, descent = strong.getmetrics()
    width = int(name_width + score_width) + gap + 2 * pad
    height = ascent + descent + round(size * 0.10) * scale
    width, height = (-(-side // scale) * scale for side in (width, height))
    tag = Image.new("RGBA", (width, height), (*color, 0))
    draw = ImageDraw.Draw(tag)
    radius = round(size * 0.36) * scale
    border = color.towards(DARK, 0.35)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=(*border, 255))
    draw.rounded_rectangle(
        (scale, scale, width - 1 - scale, height - 1 - scale), radius - scale, fill=(*color, 255)
    )
    baseline = (height - ascent - descent) // 2 + ascent
    draw.text((pad, baseline), name, font=strong, fill=(*color.ink, 255), anchor="ls")
    faint = color.ink.towards(color, 0.14)
    draw.text(
        (pad + name_width + gap, baseline), score, font=light, fill=(*faint, 255), anchor="ls"
    )
    return np.asarray(tag.resize((width // scale, height // scale), Image.Resampling.BOX))


class LabelPlacer:
    """Assigns positions to labels, none overlapping an earlier one.

    Args:
        width: Of the image.
        height: Of the image.
        margin: Minimum distance between labels and to the image's edge.
    """

    def __init__(self, width: int, height: int, margin: int) -> None:
        self.width = width
        self.height = height
        self.margin = margin
        self.taken: list[Rectangle] = []

    def place(
        self, across: int, down: int, box: Rectangle, anchor: tuple[int, int]
    ) -> Rectangle | None:
        """A free position near an instance, or None if all are taken.

        Args:
            across: Width of the label.
            down: Its height.
            box: Of the instance.
            anchor: A point inside the instance's mask, x and y.

        Returns:
            The position, now taken.
        """
        if across + 2 * self.margin > self.width or down + 2 * self.margin > self.height:
            return None
        for place in self._candidates(across, down, box, anchor):
            inside = place.moved_inside(self.width, self.height, self.margin)
            wide = inside.grown(self.margin)
            if not any(wide.overlap(other) for other in self.taken):
                self.taken.append(inside)
                return inside
        return None

    def _candidates(
        self, across: int, down: int, box: Rectangle, anchor: tuple[int, int]
    ) -> Iterator[Rectangle]:
        """Positions from the best to the last resort."""
        gap = self.margin
        small = box.right - box.left < 1.4 * across or box.bottom - box.top < 2.2 * down
        above, below = box.top - down - gap, box.bottom + gap
        inside = [
            (box.left + gap, box.top + gap),
            (anchor[0] - across // 2, anchor[1] - down // 2),
            (box.right - across - gap, box.top + gap),
            (box.left + gap, box.bottom - down - gap),
            (box.right - across - gap, box.bottom - down - gap),
        ]
        outside = [(box.left, above), (box.left, below), (box.right - across, above)]
        outside += [(box.right + gap, box.top), (box.left - across - gap, box.top)]
        outside = [
            (x, y)
            for x, y in outside
            if x >= 0 and y >= 0 and x + across <= self.width and y + down <= self.height
        ]
        # The middle of a mask shows best whose label it is; a small mask must stay visible.
        middle, corners = inside[1], [inside[0], *inside[2:]]
        order = [*outside, *corners] if small else [middle, *corners, *outside]
        for left, top in order:
            yield Rectangle(left, top, left + across, top + down)
        for ring in range(1, 4):
            for dx, dy in ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, -1), (-1, 1), (1, 1)):
                left = anchor[0] - across // 2 + dx * ring * (across // 2 + gap)
                top = anchor[1] - down // 2 + dy * ring * (down + gap)
                yield Rectangle(left, top, left + across, top + down)
