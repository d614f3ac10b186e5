"""The sample dataset: images of shapes in COCO layout, the same bytes for the same seed.

Made to be learned in minutes on a CPU and to have what real data has: occlusion, holes, tiny and
image-filling objects, objects cut by the border, crowd regions, images without objects; polygons
and run-length masks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_api
from rich.progress import track

from pipeline.acquire.drawing import (
    CLASSES,
    Array,
    Silhouette,
    background,
    silhouette,
    stamp,
)

SPLITS = ("train", "val")

_SIDE = (128, 192)  # pixels, both ends included
_CROWD_SHARE = 0.04  # images with a crowd region
_EMPTY_SHARE = 0.03  # images without objects, except perhaps a crowd
_COUNTS = ((1, 0.12), (2, 0.22), (3, 0.26), (4, 0.20), (5, 0.12), (6, 0.08))  # objects: probability
_MIN_AREA = 20  # pixels; smaller objects are not drawn
_MIN_VISIBLE = 0.45  # at least this share of each object stays visible
_TRIES = 20  # to place an object

Mask = NDArray[np.bool_]


@dataclass
class _Object:
    name: str
    mask: Mask  # (h, w): the visible part so far
    area: int  # before anything covered it
    outline: NDArray[np.float64] | None  # (P, 2) while it describes the mask exactly
    crowd: bool = False


def write_sample(root: Path, *, seed: int, train_images: int, val_images: int) -> None:
    """Write both splits.

    Args:
        root: receives ``{train,val}/*.jpg`` and ``annotations/instances_{train,val}.json``.
        seed: determines every byte.
        train_images: images in train.
        val_images: images in val.
    """
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(zip(SPLITS, (train_images, val_images), strict=True)):
        (root / split).mkdir(exist_ok=True)
        content = _header(split, seed)
        for index in track(range(count), description=f"Drawing {split}"):
            rng = np.random.default_rng([seed, number, index])
            _write_picture(rng, root / split, content)
        text = json.dumps(content, separators=(",", ":"))
        (root / "annotations" / f"instances_{split}.json").write_text(text)


def draw_picture(rng: Generator) -> tuple[NDArray[np.uint8], list[_Object]]:
    """One image (h, w, 3) RGB and what is visible in it, in the order of drawing."""
    w, h = (int(side) for side in rng.integers(_SIDE[0], _SIDE[1] + 1, 2))
    canvas = background(rng, (h, w))
    objects: list[_Object] = []
    if rng.random() < _CROWD_SHARE:
        canvas, crowd = _draw_crowd(rng, canvas)
        objects.append(crowd)
    empty = rng.random() < _EMPTY_SHARE
    numbers, shares = zip(*_COUNTS, strict=True)
    for _ in range(0 if empty else rng.choice(numbers, p=shares)):
        for _attempt in range(_TRIES):
            name, radius = CLASSES[rng.integers(len(CLASSES))], _draw_radius(rng, min(h, w))
            centre = _draw_centre(rng, radius, (h, w))
            shape = silhouette(rng, name, centre, radius, (h, w))
            if _fits(shape, objects):
                canvas = stamp(rng, canvas, shape, centre, radius)
                _add(objects, name, shape)
                break
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), objects


def _draw_radius(rng: Generator, shorter_side: int) -> float:
    kind = rng.random()
    if kind < 0.04:  # tiny
        return rng.uniform(4.5, 8)
    if kind < 0.09:  # as large as the image
        return rng.uniform(0.38, 0.55) * shorter_side
    return float(np.exp(rng.uniform(np.log(14), np.log(46))))


def _draw_centre(rng: Generator, radius: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """A centre (x, y) at which at least part of the object is inside the image."""
    side = np.array(size[::-1], np.float64)
    margin = np.minimum(radius * 0.7, side * 0.45)
    return rng.uniform(margin, side - margin)


def _draw_crowd(rng: Generator, canvas: Array) -> tuple[Any, _Object]:
    """Many tiny objects of one class in a cluster, annotated as one crowd region."""
    size = canvas.shape[:2]
    name = CLASSES[rng.integers(len(CLASSES))]
    middle = rng.uniform(0.25, 0.75, 2) * size[::-1]
    region = np.zeros(size, bool)
    for _ in range(rng.integers(10, 20)):
        centre, radius = middle + rng.normal(0, 14, 2), rng.uniform(4, 6)
        shape = silhouette(rng, name, centre, radius, (size[0], size[1]))
        canvas = stamp(rng, canvas, shape, centre, radius)
        region |= shape.coverage >= 0.5
    return canvas, _Object(name, region, int(region.sum()), None, crowd=True)


def _fits(shape: Silhouette, objects: list[_Object]) -> bool:
    mask = shape.coverage >= 0.5
    if mask.sum() < _MIN_AREA:
        return False
    for other in objects:
        if other.crowd and (other.mask & mask).any():
            return False
        if (other.mask & ~mask).sum() < _MIN_VISIBLE * other.area:
            return False
    return True


def _add(objects: list[_Object], name: str, shape: Silhouette) -> None:
    mask = shape.coverage >= 0.5
    for other in objects:
        if (other.mask & mask).any():
            other.mask, other.outline = other.mask & ~mask, None
    outline = shape.outline if shape.whole else None
    objects.append(_Object(name, mask, int(mask.sum()), outline))


def _header(split: str, seed: int) -> dict[str, Any]:
    return {
        "info": {"description": f"CondInst Lab's sample, {split}, seed {seed}"},
        "licenses": [{"id": 1, "name": "CC0-1.0"}],
        "categories": [
            {"id": number, "name": name, "supercategory": "shape"}
            for number, name in enumerate(CLASSES, 1)
        ],
        "images": [],
        "annotations": [],
    }


def _write_picture(rng: Generator, folder: Path, content: dict[str, Any]) -> None:
    pixels, objects = draw_picture(rng)
    number = len(content["images"]) + 1
    file_name = f"{number:06d}.jpg"
    Image.fromarray(pixels).save(folder / file_name, quality=92, subsampling=0)
    h, w = pixels.shape[:2]
    content["images"].append(
        {"id": number, "file_name": file_name, "width": w, "height": h, "license": 1}
    )
    for item in objects:
        identity = {"id": len(content["annotations"]) + 1, "image_id": number}
        content["annotations"].append(identity | _annotate(item))


def _annotate(item: _Object) -> dict[str, Any]:
    """An annotation without ids: a polygon for an uncovered object, else a run-length mask."""
    h, w = item.mask.shape
    if item.outline is not None:
        segmentation: Any = [np.round(item.outline, 2).ravel().tolist()]
        rle = mask_api.merge(mask_api.frPyObjects(segmentation, h, w))
    else:
        rle = mask_api.encode(np.asfortranarray(item.mask.astype(np.uint8)))
        segmentation = {"size": [h, w], "counts": rle["counts"].decode()}
        if item.crowd:  # as in COCO: counts as numbers
            segmentation["counts"] = _run_lengths(item.mask)
    return {
        "category_id": CLASSES.index(item.name) + 1,
        "iscrowd": int(item.crowd),
        "segmentation": segmentation,
        "area": float(mask_api.area(rle)),
        "bbox": [float(value) for value in mask_api.toBbox(rle)],
    }


def _run_lengths(mask: Mask) -> list[int]:
    """COCO's uncompressed counts: column by column, beginning with the zeros."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
