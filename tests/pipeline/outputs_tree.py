"""Makes a plausible tree of stage outputs with invented numbers, to test the report on."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle

from condinst.evaluation.losses import KINDS

NAMES = ("disc", "square", "triangle", "star", "ring")
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def build_tree(root: Path, *, images: int = 6, size: int = 96, seed: int = 0) -> Path:
    """Writes data/raw, data/prepared and outputs/{train,evaluate,ablate,compare,sweep}."""
    rng = np.random.default_rng(seed)
    truth = {split: _draw_split(root, split, images, size, rng) for split in ("train", "val")}
    splits = {
        split: {"annotations": f"annotations/instances_{split}.json", "images": split}
        for split in truth
    }
    _json(root / "data/raw/manifest.json", {"name": "sample", "source": "sample", "splits": splits})
    _dataset(root, truth)
    _sizes(root)
    _train(root / "outputs/train", rng)
    _evaluate(root / "outputs/evaluate", truth["val"], rng)
    _studies(root / "outputs", rng)
    _sweep(root / "outputs/sweep", rng)
    return root


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _shape(kind: int, x: float, y: float, radius: float, size: int, turn: float) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    corners = {1: 4, 2: 3, 3: 10}.get(kind)
    if corners is None:
        cv2.circle(
            mask, (int(x), int(y)), int(radius), 1, -1 if kind == 0 else max(int(radius / 3), 1)
        )
        return mask
    points = []
    for k in range(corners):
        reach = radius * (0.45 if kind == 3 and k % 2 else 1)
        angle = turn + 2 * math.pi * k / corners
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return cv2.fillPoly(mask, [np.array(points, np.int32)], 1)


def _encode(mask: np.ndarray) -> dict[str, Any]:
    code: Any = rle.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def _box(mask: np.ndarray) -> list[float]:
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]


def _draw_split(
    root: Path, split: str, images: int, size: int, rng: np.random.Generator
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 2 * k + 1, "name": name} for k, name in enumerate(NAMES)],
    }
    folder = root / "data/raw" / split
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, images + 1):
        grid = np.linspace(60, 190, size)
        ground = np.stack(
            [grid[None] * 0.5 + grid[:, None] * w for w in rng.uniform(0.2, 0.6, 3)], 2
        )
        picture = np.clip(ground + rng.normal(0, 8, ground.shape), 0, 255)
        for _ in range(int(rng.integers(0, 5)) if number > 1 else 3):
            kind = int(rng.integers(len(NAMES)))
            radius = rng.uniform(size * 0.07, size * 0.3)
            x, y = rng.uniform(radius, size - radius, 2)
            mask = _shape(kind, x, y, radius, size, rng.uniform(0, 6))
            if not mask.any():
                continue
            picture[mask > 0] = rng.uniform(30, 255, 3)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 2 * kind + 1,
                    "bbox": _box(mask),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": _encode(mask),
                }
            )
        name = f"{number:06d}.jpg"
        Image.fromarray(picture.astype(np.uint8)).save(folder / name)
        content["images"].append({"id": number, "file_name": name, "height": size, "width": size})
    prepared = root / "data/prepared" / split
    _json(prepared / "annotations.json", content)
    _json(prepared / "index.json", {"images": f"../../raw/{split}", "categories": []})
    return content


def _dataset(root: Path, truth: dict[str, dict[str, Any]]) -> None:
    splits = {}
    for name, content in truth.items():
        ids = {entry["id"]: entry["name"] for entry in content["categories"]}
        found = [ids[entry["category_id"]] for entry in content["annotations"]]
        filled = {entry["image_id"] for entry in content["annotations"]}
        splits[name] = {
            "images": len(content["images"]),
            "objects": len(found),
            "crowds": 0,
            "empty_images": len(content["images"]) - len(filled),
            "refused": 0,
            "sizes": {"small": len(found), "medium": 0, "large": 0},
            "objects_per_image": {"0": len(content["images"]) - len(filled), "3": len(filled)},
            "per_category": {label: found.count(label) for label in ids.values()},
        }
    dataset = {"name": "sample", "hash": "5f0e" * 8, "splits": splits}
    _json(
        root / "data/prepared/dataset.json",
        {**dataset, "categories": truth["val"]["categories"]},
    )


def _sizes(root: Path) -> None:
    sheets = root / "data/prepared/sheets"
    sheets.mkdir(parents=True)
    for split in ("train", "val"):
        Image.new("RGB", (100, 32), (90, 120, 60)).save(sheets / f"{split}.jpg")
    folder = root / "data/prepared/plots"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"side": side, "train": 4, "val": 3} for side in ("0 to 8", "8 to 16", "16 to 32")]
    _table(folder / "object_sizes.csv", [*rows, {"side": "32 to 64", "train": 0, "val": 0}])


def _train(folder: Path, rng: np.random.Generator) -> None:
    rows = []
    for step in range(20, 1201, 20):
        terms = {
            "loss_fcos_cls": 0.9 * math.exp(-step / 350) + 0.12,
            "loss_fcos_loc": 0.6 * math.exp(-step / 500) + 0.15,
            "loss_fcos_ctr": 0.66 - 0.06 * step / 1200,
            "loss_mask": 0.7 * math.exp(-step / 420) + 0.13,
        }
        terms = {key: value * rng.uniform(0.88, 1.12) for key, value in terms.items()}
        rest = {
            "lr": 0.02 * min(1, step / 100) * (1 if step < 900 else 0.1),
            "images_per_s": rng.normal(11.4, 0.3),
        }
        rows.append({"iteration": step, "total_loss": sum(terms.values()), **terms, **rest})
    folder.mkdir(parents=True, exist_ok=True)
    _table(folder / "curve.csv", rows)
    _json(
        folder / "run.json",
        {
            "hash": "0123456789abcdef",
            "data_hash": "5f0e" * 8,
            "git_commit": "a75e7bb0" * 5,
            "seed": 0,
            "steps": 1200,
            "seconds": 861.4,
        },
    )
    _json(
        folder / "environment.json",
        {
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
            "cores": 2,
            "device": "cpu",
            "gpus": [],
            "packages": {"torch": "2.14.1", "numpy": "2.4.6"},
            "code": "fedcba9876543210",
        },
    )


def _twelve(rng: np.random.Generator, base: float) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {
        name: float(np.clip(base + rng.normal(0, 3), 0, 100)) for name in NUMBERS
    }
    numbers |= {"AP": base, "AP50": min(base + 24, 99.0), "AP75": base + 3}
    return numbers


def _evaluate(folder: Path, truth: dict[str, Any], rng: np.random.Generator) -> None:
    metrics = {"segm": _twelve(rng, 54.2), "bbox": _twelve(rng, 59.7)}
    metrics["segm"]["APl"] = None
    metrics["boundary"] = {**metrics["segm"], "AP": 41.1}
    _json(folder / "metrics.json", metrics)
    per_class = {
        task: {name: _twelve(rng, rng.uniform(30, 75)) for name in NAMES} for task in metrics
    }
    _json(folder / "per_class.json", per_class)
    gains = {kind: float(rng.uniform(0, 9)) for kind in KINDS}
    errors = {"ap50": 78.2, "gains": gains, "counts": dict.fromkeys(KINDS, 12)}
    _json(folder / "errors.json", dict.fromkeys(metrics, errors))
    intervals = {
        task: {
            name: None if value is None else {"low": value - 3.2, "high": value + 3.1}
            for name, value in numbers.items()
        }
        for task, numbers in metrics.items()
    }
    record = {
        "evaluator": "pycocotools",
        "evaluator_version": "2.0.11",
        "weights_sha256": "ab12" * 16,
    }
    record |= {"intervals": intervals, "confidence": 0.95, "draws": 1000, "remarks": []}
    _json(folder / "evaluation.json", record)
    _table(
        folder / "pr_curves.csv",
        [
            {
                "task": task,
                "iou": iou,
                "class": label,
                "recall": recall / 100,
                "precision": max(0.0, 1 - (recall / 100 / reach) ** 3),
            }
            for task in metrics
            for iou, reach in (("0.50", 0.98), ("0.75", 0.8), ("0.50:0.95", 0.75))
            for label in ("all", *NAMES)
            for recall in range(101)
        ],
    )
    detections = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox", "segmentation")}
        | {"score": float(rng.uniform(0.2, 1))}
        for entry in truth["annotations"]
    ]
    _json(folder / "detections.json", detections)
    rows = [
        {"image_id": entry["id"], "quality": float(rng.uniform(0, 100))}
        for entry in truth["images"]
    ]
    _json(folder / "per_image.json", rows)


def _studies(outputs: Path, rng: np.random.Generator) -> None:
    studies = {
        "mask_loss": {
            "stride8": (41.3, ""),
            "stride4": (44.9, "better"),
            "stride1": (45.4, "better"),
        },
        "coords": {
            "relative": (41.3, ""),
            "absolute": (40.6, "not told apart"),
            "none": (29.8, "worse"),
        },
    }
    compared = {}
    for name, variants in studies.items():
        baseline = next(iter(variants))
        rows: dict[str, Any] = {}
        for variant, (base, word) in variants.items():
            metrics = {"segm": _twelve(rng, base), "bbox": _twelve(rng, base + 5)}
            place = outputs / "ablate" / name / variant / "seed0"
            _train(place / "train", rng)
            _json(place / "evaluate/metrics.json", metrics)
            row = rows[variant] = {"changes": {}, "seeds": [0], "metrics": metrics}
            level = {"estimate": base, "low": base - 2, "high": base + 2}
            row |= {"levels": {"segm": {"AP": level}}}
            if word:
                one = _difference(base - variants[baseline][0], word)
                other = {**one, "exploratory": True, "verdict": {"word": "higher", "sentence": "s"}}
                row |= {"segm": {"AP": one}, "boundary": {"AP": other}, "bbox": {"AP": other}}
        compared[name] = {
            "baseline": baseline,
            "primary": "segm/AP",
            "variants": rows,
            "verdict": f"Compared with {baseline}. One training each.",
            "explored": {"tried": 140, "kept": 9, "rate": 0.05},
        }
    strides = {"stride8": 8, "stride4": 4, "stride1": 1}
    published = {"values": {"stride4": 35.7}, "from": "the paper", "data": "coco2017"}
    compared["mask_loss"] |= {
        "axis": {"key": "MODEL.CONDINST.MASK_OUT_STRIDE", "values": strides},
        "published": {**published, "other_data": True},
    }
    compared["mask_loss"]["variants"]["stride8"]["annotation"] = {
        "masks": 1200,
        "boxes": 30,
        "hours": 26.5,
    }
    content = {"confidence": 0.95, "studies": compared, "mask_seconds": 79.2, "box_seconds": 7.0}
    _json(outputs / "compare/comparison.json", content)


def _difference(difference: float, word: str) -> dict[str, Any]:
    return {
        "difference": difference,
        "low": difference - 1.8,
        "high": difference + 1.7,
        "verdict": {
            "word": word,
            "phrase": f"{word} on these images, one training each" if "told" not in word else word,
            "sentence": f"{word}: {difference:+.1f} points",
        },
    }


def _sweep(folder: Path, rng: np.random.Generator) -> None:
    space = {"train.lr": {"log_uniform": [0.005, 0.08]}, "train.clip_gradients": {"choice": [1, 5]}}
    trials = [
        {
            "number": k,
            "params": {
                "train.lr": float(10 ** rng.uniform(-2.3, -1.1)),
                "train.clip_gradients": int(rng.choice([1, 5])),
            },
            "value": float(rng.uniform(20, 35)),
            "state": "finished",
        }
        for k in range(4)
    ]
    best = max(trials, key=lambda trial: trial["value"])
    content = {"metric": "segm/AP", "trials": trials, "best": best, "space": space}
    content |= {"importance": {"train.lr": 0.8, "train.clip_gradients": 0.2}, "importance_by": "x"}
    _json(folder / "results.json", content)
