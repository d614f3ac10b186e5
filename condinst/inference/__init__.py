"""Detections for pictures, and overlays that show them.

`Predictor` is imported when first asked for: drawing alone needs neither torch nor detectron2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condinst.inference.palette import Color, class_color
from condinst.inference.visualizer import Shapes, draw_instances

if TYPE_CHECKING:
    from condinst.inference.predictor import Predictor

__all__ = ["Color", "Predictor", "Shapes", "class_color", "draw_instances"]


def __getattr__(name: str) -> object:
    if name == "Predictor":
        from condinst.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
