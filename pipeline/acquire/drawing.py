"""Silhouettes, fills and backgrounds of the sample dataset: pure functions of a random generator.

Letters: ``h, w`` size of the image in pixels; points are (x, y) in pixels, y downwards; colours
are RGB in [0, 1].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating[Any]]  # float32 except where numpy promotes

CLASSES = ("disc", "square", "triangle", "star", "heart", "ring")

# As with real objects, each class has typical colours, but they overlap and some objects have any
# colour.
_HUES = {"disc": 0.58, "square": 0.75, "triangle": 0.36, "star": 0.14, "heart": 0.97, "ring": 0.06}
_HUE_SPREAD = 0.05
_ANY_HUE = 0.1  # share of objects

_SUPERSAMPLING = 4  # edges are anti-aliased by drawing this many times larger
_CURVE_POINTS = 64


class Silhouette(NamedTuple):
    """One object's shape before anything covers it."""

    name: str  # its class
    outline: NDArray[np.float64]  # (P, 2)
    coverage: Array  # (h, w): the share of each pixel that the object covers
    whole: bool  # one polygon without a hole, entirely inside the image


def silhouette(
    rng: Generator, name: str, centre: NDArray[np.float64], radius: float, size: tuple[int, int]
) -> Silhouette:
    """Draw a shape at a random angle.

    Args:
        rng: draws angle, flattening and, for a ring, the width of its hole.
        name: one of CLASSES.
        centre: (2,) in pixels.
        radius: of the circle around the shape, in pixels.
        size: (h, w).
    """
    angle, flattening = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.0)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    placed = _unit_outline(name) * (1.0, flattening) @ rotation.T * radius
    outline = placed + centre
    hole = placed * rng.uniform(0.45, 0.6) + centre if name == "ring" else None
    h, w = size
    inside = outline.min() > 0 and outline[:, 0].max() < w and outline[:, 1].max() < h
    return Silhouette(name, outline, _rasterise(outline, hole, size), bool(inside) and hole is None)


def background(rng: Generator, size: tuple[int, int]) -> Array:
    """A background (h, w, 3): plain, waves, wood, clouds or tiles, with soft light and grain."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    hue = rng.random()
    dark = _colour(hue, rng.uniform(0.08, 0.4), rng.uniform(0.35, 0.9))
    light = _colour(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.45), rng.uniform(0.3, 0.85))
    angle = rng.uniform(0, 2 * np.pi)
    mix = ((x - w / 2) * np.cos(angle) + (y - h / 2) * np.sin(angle)) / max(w, h) + 0.5
    mix = _texture(rng, mix, x, y, angle) + 0.5 * (_clouds(rng, size, 30) - 0.5)
    mix = np.clip(mix, 0, 1)[..., None]
    grain = rng.normal(0, 1, (h, w, 1)) * rng.uniform(0.004, 0.02)
    return (dark * (1 - mix) + light * mix + grain).astype(np.float32)


def stamp(
    rng: Generator, canvas: Array, shape: Silhouette, centre: NDArray[np.float64], radius: float
) -> Array:
    """Lay a filled shape with a soft shadow over an image (h, w, 3)."""
    alpha = shape.coverage[..., None]
    shadow = _shadow(shape.coverage, radius)[..., None]
    fill = _fill(rng, shape.name, canvas.shape[:2], centre, radius)
    return canvas * (1 - 0.45 * shadow) * (1 - alpha) + fill * alpha


def _unit_outline(name: str) -> NDArray[np.float64]:
    """Outline (P, 2) of a shape inside the unit circle."""
    turn = np.linspace(0, 2 * np.pi, _CURVE_POINTS, endpoint=False)
    if name == "square":
        return 0.86 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    if name == "triangle":
        corner = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
        return np.stack([np.cos(corner), -np.sin(corner)], 1)
    if name == "star":
        corner = np.pi / 2 + np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
        return np.stack([reach * np.cos(corner), -reach * np.sin(corner)], 1)
    if name == "heart":
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([x, -(y + 2.5)], 1) / 17
    assert name in ("disc", "ring"), name
    return np.stack([np.cos(turn), np.sin(turn)], 1)


def _rasterise(
    outline: NDArray[np.float64], hole: NDArray[np.float64] | None, size: tuple[int, int]
) -> Array:
    h, w = size
    canvas = Image.new("L", (w * _SUPERSAMPLING, h * _SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    for points, value in ((outline, 255), (hole, 0)):
        if points is not None:
            pen.polygon([tuple(point) for point in points * _SUPERSAMPLING], fill=value)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / 255


def _clouds(rng: Generator, size: tuple[int, int], cell: int) -> Array:
    """Smooth noise (h, w) around 0.5 whose bumps are about ``cell`` pixels wide."""
    h, w = size
    grid = rng.random((h // cell + 2, w // cell + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC))


def _colour(hue: float, saturation: float, value: float) -> Array:
    """HSV to RGB; the hue is taken modulo 1."""
    sector = (np.array([5, 3, 1]) + hue * 6) % 6
    return (value - value * saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1)).astype(
        np.float32
    )


def _texture(rng: Generator, mix: Array, x: Array, y: Array, angle: float) -> Array:
    kind = rng.integers(5)
    size = mix.shape
    if kind == 1:  # waves
        across = x * np.cos(angle + 1) + y * np.sin(angle + 1)
        return mix + 0.25 * np.sin(across * 2 * np.pi / rng.uniform(8, 22))
    if kind == 2:  # wood
        across = x * np.cos(angle) + y * np.sin(angle) + 14 * _clouds(rng, size, 40)
        return 0.5 + 0.3 * np.sin(across * 2 * np.pi / rng.uniform(6, 14))
    if kind == 3:  # clouds
        return mix + 0.7 * (_clouds(rng, size, 14) - 0.5)
    if kind == 4:  # tiles
        tile = rng.uniform(12, 24)
        return mix + 0.18 * (2 * ((np.floor(x / tile) + np.floor(y / tile)) % 2) - 1)
    return mix


def _shadow(coverage: Array, radius: float) -> Array:
    """The shape's coverage, blurred and shifted to the lower right."""
    solid = Image.fromarray((coverage * 255).astype(np.uint8))
    blurred = solid.filter(ImageFilter.GaussianBlur(max(1.0, radius * 0.12)))
    shift = max(1, int(radius * 0.1))
    shadow = np.zeros_like(coverage)
    shadow[shift:, shift:] = np.asarray(blurred, np.float32)[:-shift, :-shift] / 255
    return shadow


def _fill(
    rng: Generator, name: str, size: tuple[int, int], centre: NDArray[np.float64], radius: float
) -> Array:
    """A fill (h, w, 3) of two colours, lit from the upper left."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32) - centre[::-1, None, None].astype(np.float32)
    any_hue = rng.random() < _ANY_HUE
    hue = rng.random() if any_hue else rng.normal(_HUES[name], _HUE_SPREAD)
    base = _colour(hue, rng.uniform(0.55, 0.95), rng.uniform(0.7, 1))
    other_hue = hue + rng.choice([0.06, -0.06])
    other = _colour(other_hue, rng.uniform(0.4, 0.9), rng.uniform(0.4, 1))
    mix = _pattern(rng, x / radius, y / radius, radius)[..., None]
    light = 1.08 - 0.22 * np.clip((x + y) / (2 * radius) + 0.3, 0, 1)[..., None]
    return ((base * (1 - mix) + other * mix) * light).astype(np.float32)


def _pattern(rng: Generator, x: Array, y: Array, radius: float) -> Array:
    """The second colour's share of each pixel; ``x, y`` in radii from the object's centre."""
    angle = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = rng.integers(5)
    if kind == 2:  # stripes
        return 0.55 * (np.sin(u * rng.uniform(5, 9)) > 0.2)
    if kind == 3:  # dots
        density = rng.uniform(2, 3.5)
        return 0.7 * (((u * density) % 1 - 0.5) ** 2 + ((v * density) % 1 - 0.5) ** 2 < 0.07)
    if kind == 4:  # marble
        return 0.5 * _clouds(rng, x.shape, max(4, int(radius / 3)))
    return np.clip(0.3 * (u + 1), 0, 1)
