"""Overlays of instances on images: filled masks, contours, boxes and labels.

Shapes: K instances on an image of h x w pixels, drawn on a canvas of H x W = scale * (h x w).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from condinst.inference.labels import LabelPlacer, Rectangle, render_label
from condinst.inference.palette import Color, class_color

if TYPE_CHECKING:
    from detectron2.structures import Instances


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What is drawn, as plain arrays; `Shapes.of` reads detectron2's `Instances`.

    Attributes:
        boxes: (K, 4) left, top, right, bottom in pixels of the image.
        classes: (K,) contiguous class indices.
        masks: (K, h, w) bool, or None for boxes only.
        scores: (K,) 0 to 1, or None for ground truth.
        crowd: (K,) bool, regions that stand for many objects; or None.
    """

    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None = None
    scores: np.ndarray | None = None
    crowd: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.classes)

    @classmethod
    def of(cls, instances: Instances) -> Shapes:
        """Reads predictions (``pred_*``, ``scores``) or ground truth (``gt_*``)."""
        prefix = "pred" if instances.has("pred_classes") else "gt"

        def field(name: str) -> np.ndarray | None:
            if not instances.has(name):
                return None
            value = instances.get(name)
            return np.asarray(getattr(value, "tensor", value).detach().cpu())

        classes = field(f"{prefix}_classes")
        boxes = field(f"{prefix}_boxes")
        assert classes is not None, "instances without classes"
        if boxes is None:
            boxes = np.zeros((len(classes), 4), np.float32)
        return cls(boxes, classes, _bitmaps(instances, f"{prefix}_masks"), field("scores"))


def _bitmaps(instances: Instances, name: str) -> np.ndarray | None:
    """Masks as (K, h, w) bool, also from polygons."""
    if not instances.has(name):
        return None
    masks: Any = instances.get(name)
    if hasattr(masks, "polygons"):
        from detectron2.structures import BitMasks

        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return np.asarray(getattr(masks, "tensor", masks).detach().cpu()).astype(bool)


def draw_instances(
    image: np.ndarray,
    instances: Instances | Shapes,
    names: Sequence[str] = (),
    *,
    colors: Callable[[int], Color] | None = None,
    canvas_side: int = 800,
    opacity: float = 0.42,
    weight: float = 1.0,
    boxes: bool = False,
    labels: bool = True,
) -> np.ndarray:
    """Draws instances over an image.

    Masks are filled half-transparently, the largest first, and outlined; labels are placed where
    they neither collide nor leave the image, high scores first. An image smaller than the canvas is
    enlarged before anything is drawn, so that lines and letters stay fine.

    Args:
        image: (h, w, 3) uint8 RGB.
        instances: Predictions or ground truth in the image's pixels; may be empty.
        names: Of the classes; a class without one shows its index.
        colors: Class index to colour; `class_color` by default.
        canvas_side: Minimum length of the result's longer side; 0 keeps the size.
        opacity: Of the fill.
        weight: Of lines and letters; more than 1 for an image that will be shown small.
        boxes: Whether to draw boxes as well; without masks they always are.
        labels: Whether to write classes and scores.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: If the image is not an (h, w, 3) uint8 array, or a mask has another size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"the image is {image.dtype} {image.shape}, must be uint8 (h, w, 3)")
    shapes = instances if isinstance(instances, Shapes) else Shapes.of(instances)
    if shapes.masks is not None and shapes.masks.shape[1:] != image.shape[:2]:
        raise ValueError(f"masks of {shapes.masks.shape[1:]} on an image of {image.shape[:2]}")
    scale = max(1.0, canvas_side / max(image.shape[:2]))
    canvas = _enlarge(image, scale)
    painter = _Painter(canvas, scale, shapes, colors or class_color, opacity, weight)
    for index in painter.largest_first():
        painter.draw(index, with_box=boxes or shapes.masks is None)
    if labels:
        painter.write_labels(names)
    return painter.canvas


def _enlarge(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image.copy()
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


class _Painter:
    """One image being drawn."""

    def __init__(
        self,
        canvas: np.ndarray,
        scale: float,
        shapes: Shapes,
        colors: Callable[[int], Color],
        opacity: float,
        weight: float,
    ) -> None:
        self.canvas = canvas
        self.scale = scale
        self.shapes = shapes
        self.colors = [colors(int(index)) for index in shapes.classes]
        self.opacity = opacity
        self.size = canvas.shape[1], canvas.shape[0]
        longer = max(self.size)
        self.line = max(2, round(longer / 430 * weight))
        self.letters = int(np.clip(round(longer / 50 * weight), 11, 40))
        self.outlines: dict[int, _Outline] = {}

    def largest_first(self) -> list[int]:
        """Order of drawing: small instances end up on top."""
        if self.shapes.masks is not None:
            area = self.shapes.masks.sum(axis=(1, 2))
        else:
            area = np.prod(
                np.maximum(self.shapes.boxes[:, 2:] - self.shapes.boxes[:, :2], 0), axis=1
            )
        return [int(index) for index in np.argsort(-area, kind="stable")]

    def draw(self, index: int, *, with_box: bool) -> None:
        color = self.colors[index]
        if self.shapes.masks is not None:
            outline = _Outline.trace(self.shapes.masks[index], self.scale, self.size)
            if outline is None:
                return
            self.outlines[index] = outline
            crowd = self.shapes.crowd is not None and bool(self.shapes.crowd[index])
            self._fill(outline, color, hatched=crowd)
        if with_box:
            left, top, right, bottom = (
                round(float(x) * self.scale) for x in self.shapes.boxes[index]
            )
            corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            self._stroke([corners.astype(np.int32)], color, shift=0)

    def _fill(self, outline: _Outline, color: Color, *, hatched: bool) -> None:
        area = outline.area
        patch = self.canvas[area.top : area.bottom, area.left : area.right]
        cover = outline.cover[..., None] * self.opacity
        if hatched:
            rows, columns = np.ogrid[area.top : area.bottom, area.left : area.right]
            period = 7 * self.line
            cover = cover * np.where((rows + columns) % period < period // 2, 1.0, 0.25)[..., None]
        patch[:] = np.rint(patch * (1 - cover) + np.array(color, np.float32) * cover)
        self._stroke(outline.contours, color, shift=_Outline.SHIFT)

    def _stroke(self, contours: list[np.ndarray], color: Color, *, shift: int) -> None:
        """A coloured line on a thin dark one, to stand out on any background."""
        joined = np.concatenate([c.reshape(-1, 2) for c in contours]) / (1 << shift)
        reach = 3 * self.line + 2
        left, top = np.maximum(np.floor(joined.min(axis=0)).astype(int) - reach, 0)
        right, bottom = np.ceil(joined.max(axis=0)).astype(int) + reach
        patch = self.canvas[top:bottom, left:right]
        offset = np.array([left, top]) << shift
        moved = [(c.reshape(-1, 2) - offset).astype(np.int32) for c in contours]
        dark = np.zeros(patch.shape[:2], np.uint8)
        cv2.polylines(dark, moved, True, 255, self.line + 2, cv2.LINE_AA, shift)
        cover = (dark * (0.4 / 255))[..., None]
        patch[:] = np.rint(patch * (1 - cover))
        patch[:] = cv2.polylines(
            np.ascontiguousarray(patch), moved, True, tuple(color), self.line, cv2.LINE_AA, shift
        )

    def write_labels(self, names: Sequence[str]) -> None:
        placer = LabelPlacer(*self.size, margin=max(2, self.letters // 6))
        scores = self.shapes.scores
        order = range(len(self.shapes)) if scores is None else np.argsort(-scores, kind="stable")
        for index in (int(i) for i in order):
            if self.shapes.masks is not None and index not in self.outlines:
                continue
            self._write_label(index, names, placer)

    def _write_label(self, index: int, names: Sequence[str], placer: LabelPlacer) -> None:
        number = int(self.shapes.classes[index])
        name = names[number] if number < len(names) else str(number)
        if self.shapes.crowd is not None and self.shapes.crowd[index]:
            name = f"{name} (crowd)"
        score = "" if self.shapes.scores is None else f"{self.shapes.scores[index]:.2f}"
        box, anchor = self._position(index)
        extent = min(box.right - box.left, box.bottom - box.top)
        smaller = max(10, round(self.letters * 0.82))
        sizes = [smaller] if extent < 3 * self.letters else [self.letters, smaller]
        choices = [(name, score, size) for size in sizes] + [
            (name, "", smaller),
            ("", score, smaller),
        ]
        for text in choices:
            if not (text[0] or text[1]):
                continue
            tag = render_label(text[0], text[1], self.colors[index], text[2])
            place = placer.place(tag.shape[1], tag.shape[0], box, anchor)
            if place is not None:
                self._paste(tag, place)
                return

    def _position(self, index: int) -> tuple[Rectangle, tuple[int, int]]:
        if index in self.outlines:
            outline = self.outlines[index]
            return outline.area, outline.anchor
        left, top, right, bottom = (round(float(x) * self.scale) for x in self.shapes.boxes[index])
        return Rectangle(left, top, right, bottom), ((left + right) // 2, (top + bottom) // 2)

    def _paste(self, tag: np.ndarray, place: Rectangle) -> None:
        patch = self.canvas[place.top : place.bottom, place.left : place.right]
        cover = tag[..., 3:].astype(np.float32) * (0.94 / 255)
        patch[:] = np.rint(patch * (1 - cover) + tag[..., :3] * cover)


@dataclasses.dataclass(frozen=True)
class _Outline:
    """A mask on the canvas.

    Attributes:
        area: Its bounding rectangle.
        cover: (height, width of the area) float32, how much of a pixel is covered.
        contours: Polygons in canvas pixels times ``1 << SHIFT``.
        anchor: The point deepest inside, x and y.
    """

    area: Rectangle
    cover: np.ndarray
    contours: list[np.ndarray]
    anchor: tuple[int, int]
    SHIFT = 1

    @classmethod
    def trace(cls, mask: np.ndarray, scale: float, size: tuple[int, int]) -> _Outline | None:
        """Enlarges a mask smoothly and traces it; None for an empty one."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return None
        top, bottom = max(rows[0] - 2, 0), min(rows[-1] + 3, mask.shape[0])
        left, right = max(columns[0] - 2, 0), min(columns[-1] + 3, mask.shape[1])
        area = Rectangle(
            round(left * scale),
            round(top * scale),
            min(round(right * scale), size[0]),
            min(round(bottom * scale), size[1]),
        )
        width, height = area.right - area.left, area.bottom - area.top
        part = mask[top:bottom, left:right].astype(np.float32)
        # The canvas at twice its resolution: half a pixel is fine enough for the eye.
        fine = cv2.resize(
            part, (width << cls.SHIFT, height << cls.SHIFT), interpolation=cv2.INTER_LINEAR
        )
        fine = cv2.GaussianBlur(fine, (0, 0), max(0.8, 1.15 * scale))
        inside = (fine > 0.5).astype(np.uint8)
        if not inside.any():  # a mask thinner than the blur
            inside = (fine >= fine.max() * 0.5).astype(np.uint8)
        found, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cover = cv2.resize(inside.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        depth = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        offset = np.array([area.left, area.top]) << cls.SHIFT
        contours = [contour.reshape(-1, 2) + offset for contour in found]
        anchor = int(area.left + x / 2), int(area.top + y / 2)
        return cls(area, cover, contours, anchor)
