"""A trained model as MLflow serves it: ``mlflow.pyfunc.load_model("runs:/<id>/model")``.

MLflow loads models through this module, so it must be importable where the model is loaded: in the
project's folder. Nothing stored with the weights is executed: they are read as plain tensors, the
config as YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from condinst.errors import UserError
from condinst.files import images as image_files
from condinst.files.pixels import Ranges, as_seen

WEIGHTS, CONFIG = "model.pth", "config.yaml"


class Served:
    """Predicts on images.

    Args:
        folder: with ``model.pth`` and ``config.yaml`` of a training.
    """

    def __init__(self, folder: Path) -> None:
        from condinst.checkpoint.loading import load_weights
        from condinst.checkpoint.reading import load_checkpoint
        from condinst.inference.predictor import Predictor
        from pipeline.recipe import load_resolved

        cfg = load_resolved(folder / CONFIG)
        cfg.MODEL.WEIGHTS = ""  # loaded here; the backbone's own are not needed
        self.predictor = Predictor(cfg, folder / WEIGHTS, load_weights=load_weights)
        meta = load_checkpoint(folder / WEIGHTS).get("meta")
        self.classes: list[str] = list((meta or {}).get("classes") or ())

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[list[dict]]:
        """Find instances.

        Args:
            model_input: an image or a list of them: (h, w, 3) uint8 RGB arrays or paths; or a table
                with paths in its first column.
            params: ``score``: leave out instances below it.

        Returns:
            For each image its instances, best first: ``class``, ``score``, ``bbox`` (x, y,
            width, height) and ``segmentation`` (COCO's RLE), in the image's pixels.
        """
        from condinst.evaluation.prediction import as_coco

        least = float((params or {}).get("score", 0.0))
        found = []
        for image in _images(model_input):
            (instances,) = self.predictor([_pixels(image, self.predictor.ranges)])
            rows = [row for row in as_coco(instances, 0) if row["score"] >= least]
            found.append([self._named(row) for row in rows])
        return found

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        number = row["category_id"]
        name = self.classes[number] if number < len(self.classes) else f"class {number}"
        kept = {key: row[key] for key in ("score", "bbox", "segmentation") if key in row}
        return {"class": name, **kept}


def _images(given: Any) -> Sequence[Any]:
    if hasattr(given, "iloc"):  # a pandas table
        return list(given.iloc[:, 0])
    if isinstance(given, (str, Path)) or (isinstance(given, np.ndarray) and given.ndim == 3):
        return [given]
    return list(given)


def _pixels(image: Any, ranges: Ranges) -> np.ndarray:
    if isinstance(image, (str, Path)):
        with image_files.opened(Path(image)) as opened:
            return as_seen(opened, ranges)
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"an image of shape {pixels.shape} and type {pixels.dtype}: give (h, w, 3) uint8 RGB, "
            "or a path"
        )
    return pixels


def _load_pyfunc(path: str) -> Served:
    """The function that MLflow calls."""
    return Served(Path(path))
