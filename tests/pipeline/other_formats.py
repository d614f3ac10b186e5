"""Writers of COCO content in other formats, to read it back."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_api

from pipeline.acquire.formats.image_files import rasterised
from pipeline.acquire.formats.voc import palette

Record = dict[str, Any]


def objects(content: Record, *, polygons: bool | None = None) -> Iterator[tuple[Record, Record]]:
    """Image and annotation of all that is no crowd; polygons alone, masks alone, or all."""
    images = {image["id"]: image for image in content["images"]}
    for entry in content["annotations"]:
        if not entry["iscrowd"] and polygons in (None, isinstance(entry["segmentation"], list)):
            yield images[entry["image_id"]], entry


def names(content: Record) -> list[str]:
    """Names of the classes, whose ids go from 1 on."""
    return [entry["name"] for entry in content["categories"]]


def mask(entry: Record, image: Record) -> Any:
    """An annotation's mask (h, w)."""
    rle = rasterised(entry["segmentation"], (image["height"], image["width"]))
    return mask_api.decode(rle).astype(bool)


def write_yolo(content: Record, folder: Path) -> None:
    """Texts of all objects that are polygons."""
    folder.mkdir(parents=True)
    for image, entry in objects(content, polygons=True):
        (corners,) = entry["segmentation"]
        sides = (image["width"], image["height"])
        shares = [f"{value / sides[k % 2]:.8f}" for k, value in enumerate(corners)]
        with (folder / image["file_name"]).with_suffix(".txt").open("a") as file:
            file.write(" ".join([str(entry["category_id"] - 1), *shares]) + "\n")


def write_voc(content: Record, root: Path, *, colours: bool = False) -> dict[str, list[Any]]:
    """Both PNGs of each image, with a palette or in colours.

    Returns:
        File name to what is then visible: category and mask of each object.
    """
    (root / "SegmentationObject").mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    visible: dict[str, list[Any]] = {}
    for image in content["images"]:
        instances = np.zeros((image["height"], image["width"]), np.uint8)
        classes = instances.copy()
        kinds = []
        for entry in content["annotations"]:
            if entry["image_id"] != image["id"] or entry["iscrowd"]:
                continue
            kinds.append(entry["category_id"])
            region = mask(entry, image)
            instances[region], classes[region] = len(kinds), entry["category_id"]
        classes[0, :3] = instances[0, :3] = 255  # nobody's
        found = [(kind, instances == number) for number, kind in enumerate(kinds, 1)]
        visible[image["file_name"]] = [(kind, region) for kind, region in found if region.any()]
        for folder, array in (("SegmentationObject", instances), ("SegmentationClass", classes)):
            picture = Image.fromarray(array)
            picture.putpalette(palette().astype(np.uint8).tobytes())
            path = (root / folder / image["file_name"]).with_suffix(".png")
            (picture.convert("RGB") if colours else picture).save(path)
    return visible


def write_labelme(content: Record, folder: Path, images: str) -> None:
    """A JSON an image that has objects: polygons, and masks as PNGs within."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, list[Record]] = {}
    sizes = {}
    for image, entry in objects(content):
        label = names(content)[entry["category_id"] - 1]
        shape: Record = {"label": label, "group_id": None, "flags": {}}
        if isinstance(entry["segmentation"], list):
            points = np.reshape(entry["segmentation"][0], (-1, 2)).tolist()
            shape |= {"shape_type": "polygon", "points": points}
        else:
            x, y, w, h = (int(value) for value in entry["bbox"])
            part = Image.fromarray(mask(entry, image)[y : y + h, x : x + w])
            part.save(data := io.BytesIO(), "PNG")
            text = base64.b64encode(data.getvalue()).decode()
            corners = [[x, y], [x + w - 1, y + h - 1]]
            shape |= {"shape_type": "mask", "points": corners, "mask": text}
        shapes.setdefault(image["file_name"], []).append(shape)
        sizes[image["file_name"]] = image
    for name, found in shapes.items():
        size = sizes[name]
        text = {"imagePath": f"{images}{name}", "shapes": found, "version": "5.5.0"}
        text |= {"imageHeight": size["height"], "imageWidth": size["width"], "imageData": None}
        (folder / name).with_suffix(".json").write_text(json.dumps(text))
