"""Output of the verb `predict`: overlays, a COCO-format JSON, masks."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from condinst.atomic import atomic_file

if TYPE_CHECKING:
    from detectron2.structures import Instances

    from condinst.inference.visualizer import Shapes


@dataclass(frozen=True)
class Categories:
    """Names of the contiguous classes, and their category ids in the JSON."""

    names: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PredictResult:
    """What `run_predict` wrote.

    Attributes:
        output: Its folder.
        images: Images and video frames processed.
        instances: Instances found in all of them.
        json: The COCO-format file, if requested.
    """

    output: Path
    images: int
    instances: int
    json: Path | None


@dataclass
class PredictionSink:
    """Writes results as they arrive and keeps the entries for the JSON."""

    output: Path
    categories: Categories
    save_overlays: bool
    save_masks: bool
    entries: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for folder, wanted in (("overlays", self.save_overlays), ("masks", self.save_masks)):
            if wanted:
                (self.output / folder).mkdir(parents=True, exist_ok=True)
        self.output.mkdir(parents=True, exist_ok=True)

    @property
    def images(self) -> int:
        """Images and frames so far."""
        return len(self.entries)

    def unique_name(self, path: Path) -> str:
        """The file's stem, numbered if several folders have a file of that name."""
        for number in itertools.count(1):
            name = path.stem if number == 1 else f"{path.stem}_{number}"
            if name not in self.names:
                self.names.add(name)
                return name
        raise AssertionError("unreachable")

    def overlay_path(self, name: str, suffix: str) -> Path:
        """Path of an overlay."""
        return self.output / "overlays" / f"{name}{suffix}"

    def add_image(self, path: Path, image: np.ndarray, instances: Instances) -> None:
        """Keeps the results of an image file and writes its overlay."""
        name = self.unique_name(path)
        drawn = self.add(name, str(path), image, instances)
        if self.save_overlays:
            Image.fromarray(drawn).save(self.overlay_path(name, ".jpg"), quality=92)

    def add(self, name: str, shown: str, image: np.ndarray, instances: Instances) -> np.ndarray:
        """Keeps one image's results.

        Returns:
            The overlay, or the image itself without overlays.
        """
        from condinst.inference.visualizer import Shapes, draw_instances

        shapes = Shapes.of(instances)
        number = len(self.entries) + 1
        height, width = image.shape[:2]
        self.entries.append({"id": number, "file_name": shown, "height": height, "width": width})
        self.annotations += self._annotations(number, shapes)
        if self.save_masks and shapes.masks is not None:
            for k, mask in enumerate(shapes.masks):
                label = self.categories.names[int(shapes.classes[k])].replace("/", "-")
                path = self.output / "masks" / f"{name}_{k:03d}_{label.replace(' ', '-')}.png"
                Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        return draw_instances(image, shapes, self.categories.names) if self.save_overlays else image

    def _annotations(self, image_id: int, shapes: Shapes) -> list[dict[str, Any]]:
        from pycocotools import mask as rle

        assert shapes.scores is not None, "predictions without scores"
        rows = []
        for k, (left, top, right, bottom) in enumerate(shapes.boxes.tolist()):
            row: dict[str, Any] = {
                "id": len(self.annotations) + k + 1,
                "image_id": image_id,
                "category_id": self.categories.ids[int(shapes.classes[k])],
                "bbox": [round(x, 2) for x in (left, top, right - left, bottom - top)],
                "score": round(float(shapes.scores[k]), 5),
                "iscrowd": 0,
            }
            if shapes.masks is not None:
                code: Any = rle.encode(np.asfortranarray(shapes.masks[k], np.uint8))
                row["area"] = int(shapes.masks[k].sum())
                row["segmentation"] = {"size": code["size"], "counts": code["counts"].decode()}
            rows.append(row)
        return rows

    def finish(self, save_json: bool) -> PredictResult:
        """Writes the JSON, if requested, and counts."""
        path = self.output / "predictions.json" if save_json else None
        if path is not None:
            pairs = zip(self.categories.ids, self.categories.names, strict=True)
            content = {
                "images": self.entries,
                "annotations": self.annotations,
                "categories": [{"id": number, "name": name} for number, name in pairs],
            }
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(content))
        return PredictResult(self.output, self.images, len(self.annotations), path)
