"""Pictures of the report: samples of the data, and ground truth beside predictions."""

from __future__ import annotations

import base64
import io
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from condinst.inference.visualizer import Shapes, draw_instances
from pipeline.predict.media import read_image
from pipeline.report.collect import Findings, Record

SIDE = 560
SAMPLE_SIDE = 480
WEIGHT = 2.1  # they are shown at about half their size


@dataclass(frozen=True)
class Picture:
    """A drawn picture, ready to be embedded or written.

    Attributes:
        name: Of the file beside the Markdown report, without suffix.
        alt: What is to be seen, for those who cannot.
        pixels: (h, w, 3) uint8 RGB.
    """

    name: str
    alt: str
    pixels: np.ndarray

    @property
    def uri(self) -> str:
        """As a WebP image that a page can hold in itself."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "WEBP", quality=80, method=4)
        return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def ratio(self) -> float:
        """Width over height."""
        return round(self.pixels.shape[1] / self.pixels.shape[0], 3)

    def write(self, folder: Path) -> str:
        """Writes a JPEG and returns its path relative to the folder's parent."""
        path = folder / f"{self.name}.jpg"
        Image.fromarray(self.pixels).save(path, quality=86)
        return f"{folder.name}/{path.name}"


@dataclass(frozen=True)
class Pair:
    """Ground truth beside predictions of one image.

    Attributes:
        truth: The left picture.
        predicted: The right picture.
        title: The file's name.
        detail: Counts and quality in words.
    """

    truth: Picture
    predicted: Picture
    title: str
    detail: str


class Split:
    """One split of the data: images with their ground truth.

    Args:
        content: In COCO's format.
        folder: Of the images.
        ranges: How values of more than 8 bits are scaled.
    """

    def __init__(
        self, content: Record, folder: Path, ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        self.ranges = ranges
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        self.names = [entry["name"] for entry in categories]
        self.index = {entry["id"]: k for k, entry in enumerate(categories)}
        self.images: dict[int, Record] = {entry["id"]: entry for entry in content["images"]}
        self.folder = folder
        self.truth: dict[int, list[Record]] = defaultdict(list)
        for annotation in content.get("annotations", ()):
            self.truth[annotation["image_id"]].append(annotation)

    @classmethod
    def load(cls, found: Findings, name: str) -> Split | None:
        """Reads what `prepare` left; None where annotations or images are not there."""
        folder = found.layout.prepared / name
        try:
            content = json.loads((folder / "annotations.json").read_text())
            index = json.loads((folder / "index.json").read_text())
            images = index["images"]
        except (OSError, ValueError, KeyError):
            return None
        return cls(
            content, folder / images, index.get("ranges")
        )  # relative to the index, or absolute

    def objects(self, image_id: int) -> int:
        """How many single objects an image has, crowds left out."""
        return sum(not entry.get("iscrowd") for entry in self.truth[image_id])

    def pixels(self, image_id: int) -> np.ndarray | None:
        """The image, or None where it does not decode."""
        try:
            path = self.folder / self.images[image_id]["file_name"]
            return read_image(path, self.ranges)
        except (ValueError, OSError):
            return None

    def shapes(self, image_id: int, entries: Sequence[Record]) -> Shapes:
        """Annotations or detections as the visualiser takes them."""
        image = self.images[image_id]
        size = image["height"], image["width"]
        masks = [_decode(entry.get("segmentation"), *size) for entry in entries]
        corners = [
            [x, y, x + width, y + height] for x, y, width, height in (e["bbox"] for e in entries)
        ]
        scored = bool(entries) and "score" in entries[0]
        return Shapes(
            boxes=np.array(corners, np.float32).reshape(-1, 4),
            classes=np.array([self.index[e["category_id"]] for e in entries], int),
            masks=np.array(masks, bool).reshape(-1, *size),
            scores=np.array([e["score"] for e in entries]) if scored else None,
            crowd=np.array([bool(e.get("iscrowd")) for e in entries], bool),
        )


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    if not segmentation:  # an object with only a box
        return np.zeros((height, width), bool)
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        coded: Any = rle.frPyObjects(segmentation, height, width)
        coded = rle.merge(coded) if isinstance(segmentation, list) else coded
    else:
        coded = segmentation
    return np.asarray(rle.decode(coded), bool)


def sample_pictures(split: Split, count: int, seed: int) -> list[Picture]:
    """Images with ground truth drawn in, chosen to show every class and busy scenes."""
    chooser = random.Random(seed)
    ids = [number for number in split.images if split.objects(number)]
    chooser.shuffle(ids)
    pictures, seen = [], set()
    ranked = sorted(ids, key=lambda number: -min(split.objects(number), 6))
    # A picture that shows a new class comes first.
    fresh, others = [], []
    for number in ranked:
        classes = {entry["category_id"] for entry in split.truth[number]}
        (fresh if classes - seen else others).append(number)
        seen |= classes
    for number in [*fresh, *others]:
        pixels = split.pixels(number)
        if pixels is not None and len(pictures) < count:
            drawn = draw_instances(
                pixels,
                split.shapes(number, split.truth[number]),
                split.names,
                canvas_side=SAMPLE_SIDE,
                weight=WEIGHT,
            )
            title = split.images[number]["file_name"]
            pictures.append(Picture(f"sample_{len(pictures) + 1}", f"{title} with masks", drawn))
    return pictures


def choose(quality: dict[int, float], best: int, worst: int, others: int, seed: int) -> Record:
    """Image ids of the best, the worst and some at random; none twice.

    Args:
        quality: Of each image; higher is better.
        best: How many of the best.
        worst: How many of the worst.
        others: How many at random from the rest.
        seed: Of the chance.
    """
    ranked = sorted(quality, key=lambda number: (-quality[number], number))
    good = ranked[:best]
    bad = [number for number in reversed(ranked) if number not in good][:worst]
    rest = sorted(set(ranked) - set(good) - set(bad))
    picked = random.Random(seed).sample(rest, min(others, len(rest)))
    return {"best": good, "worst": bad, "random": picked}


def make_pair(
    split: Split, image_id: int, found: Sequence[Record], quality: str, name: str
) -> Pair | None:
    """Draws ground truth and predictions of an image; None where it does not decode.

    Args:
        split: That the image belongs to.
        image_id: Its id.
        found: Its detections that are to be drawn.
        quality: In words.
        name: For files.
    """
    pixels = split.pixels(image_id)
    if pixels is None:
        return None
    title = split.images[image_id]["file_name"]
    truth = draw_instances(
        pixels,
        split.shapes(image_id, split.truth[image_id]),
        split.names,
        canvas_side=SIDE,
        weight=WEIGHT,
    )
    predicted = draw_instances(
        pixels, split.shapes(image_id, found), split.names, canvas_side=SIDE, weight=WEIGHT
    )
    objects = split.objects(image_id)
    counts = f"{objects} object{'s' * (objects != 1)}, {len(found)} drawn"
    return Pair(
        Picture(f"{name}_truth", f"ground truth of {title}", truth),
        Picture(f"{name}_predicted", f"predictions on {title}", predicted),
        Path(title).name,
        f"{counts} · {quality}" if quality else counts,
    )
