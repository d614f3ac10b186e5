"""Sound files of every kind, which the mutations start from."""

from __future__ import annotations

import base64
import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "profiles/custom.yaml"
RECIPE = ROOT / "configs/CondInst/MS_R_50_1x.yaml"
WIDTH, HEIGHT = 48, 32

Files = dict[str, bytes]


def picture(kind: str = "JPEG", mode: str = "RGB", seed: int = 1, **options: Any) -> bytes:
    """Noise of 48 x 32 pixels."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def coco_content(first: int = 1) -> dict[str, Any]:
    """Two images, polygons, both kinds of run lengths, a crowd."""
    square = [5, 5, 20, 5, 20, 20, 5, 20]
    plain = {"size": [HEIGHT, WIDTH], "counts": [64, 320, 1152]}
    coded = {"size": [HEIGHT, WIDTH], "counts": "P2P:`4"}  # 64, 320, 1152 again
    masks = [[square], plain, coded, plain]
    boxes = [[5, 5, 15, 15], [2, 0, 10, HEIGHT], [2, 0, 10, HEIGHT], [2, 0, 10, HEIGHT]]
    return {
        "info": {"year": 2024},
        "images": [
            {"id": first + k, "file_name": f"{first + k}.jpg", "width": WIDTH, "height": HEIGHT}
            for k in (0, 1)
        ],
        "annotations": [
            {
                "id": k + 1,
                "image_id": first + k % 2,
                "category_id": 1 + k % 2,
                "iscrowd": int(k == 3),
                "segmentation": mask,
                "bbox": box,
                "area": 225.0 if k == 0 else 320.0,
            }
            for k, (mask, box) in enumerate(zip(masks, boxes, strict=True))
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def labelme_content() -> dict[str, Any]:
    """A shape of each kind."""
    part = io.BytesIO()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(part, "PNG")
    text = base64.b64encode(part.getvalue()).decode()
    shapes = [
        {"label": "cat", "points": [[5, 5], [20, 5], [20, 20]], "shape_type": "polygon"},
        {"label": "dog", "points": [[3, 3], [12, 14]], "shape_type": "rectangle", "group_id": 1},
        {"label": "dog", "points": [[24, 16], [30, 16]], "shape_type": "circle", "group_id": 1},
        {"label": "cat", "points": [[8, 8], [15, 15]], "shape_type": "mask", "mask": text},
    ]
    return {
        "version": "5.2.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": "1.jpg",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }


def label_png(values: list[int], mode: str = "L", **options: Any) -> bytes:
    """Columns of numbers."""
    columns = np.repeat(np.array(values, np.uint8), WIDTH // len(values))
    array = np.tile(columns, (HEIGHT, 1))
    buffer = io.BytesIO()
    Image.fromarray(array).convert(mode).save(buffer, "PNG", **options)
    return buffer.getvalue()


YOLO = b"0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n1 0.2 0.2 0.8 0.3 0.6 0.9\n"
NAMES_YAML = b"path: .\ntrain: images\nnames:\n  0: cat\n  1: dog\n"


@functools.cache
def stand(kind: str) -> Files:
    """What lies around the file, by name."""
    both = {f"{k}.jpg": picture(seed=k) for k in (1, 2)}
    if kind == "coco":
        others = {f"pictures/{k}.jpg": picture(seed=k) for k in (1, 2, 3, 4)}
        return {**others, "val.json": json.dumps(coco_content(3)).encode()}
    if kind == "yolo":
        labels = {f"labels/{k}.txt": YOLO for k in (1, 2)}
        images = {f"images/{name}": data for name, data in both.items()}
        return {**images, **labels, "names.txt": b"cat\ndog\n", "data.yaml": NAMES_YAML}
    if kind == "voc":
        files = {f"JPEGImages/{name}": data for name, data in both.items()}
        for k in (1, 2):
            files[f"SegmentationObject/{k}.png"] = label_png([0, 1, 2, 255])
            files[f"SegmentationClass/{k}.png"] = label_png([0, 1, 2, 255])
        return {**files, "names.txt": b"cat\ndog\n", "list.txt": b"1\n2\n"}
    assert kind == "labelme", kind
    files = {f"pictures/{name}": data for name, data in both.items()}
    other = {**labelme_content(), "imagePath": "2.jpg"}
    return {**files, "pictures/2.json": json.dumps(other).encode()}


def checkpoint(plain: bool = False) -> bytes:
    """A few tensors as `torch.save` writes them."""
    import torch

    rows = torch.arange(12.0).reshape(3, 4)
    state = {"fcos_head.bias": rows, "half": rows.half(), "t": rows.t(), "count": torch.tensor(3)}
    content = state if plain else {"model": state, "iteration": 7, "meta": {"classes": ["cat"]}}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not plain)
    return buffer.getvalue()


def arrays() -> bytes:
    """A pickle of detectron2's zoo."""
    values = {"conv1_w": np.arange(8, dtype=np.float32).reshape(2, 4), "fc_b": np.float32(2)}
    return pickle.dumps({"model": values, "__author__": "someone"}, protocol=2)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def run_records() -> dict[str, Any]:
    """A study with a nested run."""
    base = {"status": "FINISHED", "start": 1_700_000_000_000, "end": 1_700_000_100_000}
    series = [["loss", 0.5, 1_700_000_000_100, 1], ["loss", 0.25, 1_700_000_000_200, 2]]
    parent = {"run_id": "a" * 32, "name": "study", "params": [["lr", "0.1"]], "tags": {"a": "b"}}
    child = {"run_id": "b" * 32, "name": "child", "params": []}
    tags = {"mlflow.parentRunId": "a" * 32}
    return {
        "format": 1,
        "runs": [
            {**base, **child, "tags": tags, "metrics": series},
            {**base, **parent, "metrics": []},
        ],
    }


def runs_archive(records: bytes | None = None) -> bytes:
    """What `runs export` writes."""
    text = json.dumps(run_records()).encode() if records is None else records
    return zipped({"runs.json": text, f"files/{'b' * 32}/curve.csv": b"1,2\n" * 40})


def sound(kind: str) -> tuple[str, bytes]:
    """The part that a file of a kind plays, and one that is used as it is."""
    made: dict[str, tuple[str, Callable[[], bytes]]] = {
        "COCO": ("train.json", lambda: json.dumps(coco_content()).encode()),
        "YOLO": ("labels/1.txt", lambda: YOLO),
        "VOC": ("SegmentationClass/1.png", lambda: label_png([0, 1, 2, 255], "P")),
        "LabelMe": ("1.json", lambda: json.dumps(labelme_content()).encode()),
        "params": ("params.yaml", PARAMS.read_bytes),
        "recipe": ("r.yaml", f"_BASE_: {RECIPE}".encode),
        "checkpoint": ("model.pth", checkpoint),
        "archive": ("data.zip", lambda: zipped({"a/1.jpg": picture(), "b.txt": b"x" * 500})),
        "runs": ("runs.zip", runs_archive),
        "image": ("a.png", lambda: picture("PNG")),
    }
    name, make = made[kind]
    return name, make()
