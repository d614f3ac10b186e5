"""Rules between the keys of params.yaml, beyond each key's own type and range."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.params import schema
from pipeline.params.axis import check_axis
from pipeline.params.schema import KeyFault
from pipeline.params.sections import Ablation, Dataset, Model, Params, Split, Sweep, Train

DETECTRON2_ROOTS = (
    "MODEL",
    "SOLVER",
    "INPUT",
    "DATASETS",
    "DATALOADER",
    "TEST",
    "SEED",
    "CUDNN_BENCHMARK",
    "FLOAT32_PRECISION",
    "VIS_PERIOD",
    "GLOBAL",
)
# Each distribution of a sweep with its number of values; 0: a list of any length.
DISTRIBUTIONS = {"uniform": 2, "log_uniform": 2, "int_uniform": 2, "choice": 0}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_SPLIT_KEYS = ("train", "val", "split")


def check(params: Params, faulty: Collection[str]) -> list[KeyFault]:
    """Finds the faults between keys.

    Args:
        params: Read parameters.
        faulty: Dotted keys already found faulty: rules that involve them are skipped.

    Returns:
        The faults, section by section.
    """

    def sound(*keys: str) -> bool:
        return not any(
            f == k or f.startswith((k + ".", k + "[")) or k.startswith(f + ".")
            for f in faulty
            for k in keys
        )

    faults: list[KeyFault] = []
    if sound("dataset"):
        faults += _check_dataset(params.dataset)
    if sound("train"):
        faults += _check_train(params.train)
    if sound("model.overrides"):
        faults += check_changes(params.model.overrides, "model.overrides", sections=False)
    for name, study in (params.ablations if sound("ablations") else {}).items():
        faults += _check_ablation(study, f"ablations.{name}")
    if sound("sweep"):
        faults += _check_sweep(params.sweep)
    return faults


def check_changes(changes: Mapping[str, Any], key: str, *, sections: bool = True) -> list[KeyFault]:
    """Checks keys and values that a variant, a trial or `model.overrides` changes.

    Args:
        changes: detectron2 keys and, with `sections`, `train.*` and `model.*`.
        key: Dotted key of the mapping, for messages.
        sections: Whether keys of params.yaml are allowed besides detectron2's.
    """
    faults: list[KeyFault] = []
    for name, value in changes.items():
        dotted = schema.join(key, name)
        problem = _key_problem(name, sections=sections)
        if problem:
            faults.append(KeyFault(dotted, problem))
        elif name.startswith(("train.", "model.")):
            hint, rule = _section_fields()[name]
            schema.read(hint, value, dotted, faults, rule)
        elif value is None or isinstance(value, dict):
            faults.append(
                KeyFault(
                    dotted,
                    f"is {schema.show(value)}, must be a number, text, true, false or a list",
                )
            )
    return faults


def _key_problem(name: object, *, sections: bool) -> str:
    """What is wrong with the name of a changed key; empty if nothing."""
    if not isinstance(name, str):
        return "the name is not text; put it in quotes"
    root = name.split(".")[0]
    ours = _section_fields() if sections else {}
    if name in ours:
        return ""
    if root in DETECTRON2_ROOTS:
        if root == "DATASETS":
            return "is set by the pipeline; choose the data with dataset.*"
        return (
            "" if re.fullmatch(r"[A-Z0-9_a-z]+(\.[A-Za-z0-9_]+)*", name) else "is not a dotted key"
        )
    near = schema.nearest(name, tuple(ours)) or schema.nearest(root, DETECTRON2_ROOTS)
    allowed = "a detectron2 key such as MODEL.CONDINST.MASK_OUT_STRIDE"
    allowed += ", or train.* or model.* of this file" if sections else ""
    return f"must be {allowed}{near}"


def _section_fields() -> dict[str, tuple[Any, schema.Rule | None]]:
    """Type and rule of each key of params.yaml that may be changed."""
    found = {}
    for section, cls in (("train", Train), ("model", Model)):
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if (section, field.name) != ("model", "overrides"):
                found[f"{section}.{field.name}"] = (hints[field.name], field.metadata.get("rule"))
    return found


def _check_dataset(dataset: Dataset) -> Iterator[KeyFault]:
    given = [name for name in _SPLIT_KEYS if getattr(dataset, name) is not None]
    if dataset.source == "sample" and dataset.sample is None:
        yield KeyFault(
            "dataset.sample", "is missing; source: sample needs seed, train_images, val_images"
        )
    kind, separator, _ = (dataset.mirror or "").partition("://")
    if separator and kind not in ("http", "https", "s3", "file"):
        yield KeyFault(
            "dataset.mirror",
            f"is {dataset.mirror}, must begin with https://, http://, s3:// or file://, be a "
            "folder, or be null",
        )
    if dataset.source == "directory":
        if dataset.root is None and given not in (["train", "val"], ["split"]):
            yield KeyFault(
                "dataset.root",
                "is null; source: directory needs the folder in COCO layout, or both dataset.train "
                "and dataset.val with json and images, or only dataset.split",
            )
        if dataset.root is not None and given:
            yield KeyFault(
                f"dataset.{given[0]}", "is set as well as dataset.root; give only one of them"
            )
    elif given:
        yield KeyFault(f"dataset.{given[0]}", "is only for source: directory; set it to null")
    if dataset.subset is not None and dataset.source != "coco2017":
        yield KeyFault("dataset.subset", "is only for source: coco2017; set it to null")
    for name in given:
        yield from _check_split(getattr(dataset, name), f"dataset.{name}")


def _check_split(split: Split, key: str) -> Iterator[KeyFault]:
    if split.format == "coco":
        if split.json is None:
            yield KeyFault(
                f"{key}.json", "is missing; format coco needs the JSON of the annotations"
            )
        for name in ("labels", "names", "list"):
            if getattr(split, name) is not None:
                yield KeyFault(f"{key}.{name}", "is not for format coco; the JSON has all of it")
        return
    if split.json is not None:
        yield KeyFault(
            f"{key}.json", f"is only for format coco; {split.format} has labels and names"
        )
    if split.format == "yolo-seg" and split.names is None:
        yield KeyFault(
            f"{key}.names",
            "is missing; yolo-seg numbers its classes: give data.yaml or a list of names",
        )


def _check_train(train: Train) -> Iterator[KeyFault]:
    if train.num_gpus > 0 and train.num_processes > 1:
        yield KeyFault(
            "train.num_processes",
            f"is {train.num_processes}, must be 1 with train.num_gpus {train.num_gpus}: "
            "each GPU has its own process",
        )
    if train.amp == "fp16" and train.num_gpus == 0:
        yield KeyFault("train.amp", "is fp16, which needs a GPU; on CPU use bf16 or none")
    if train.early_stopping and not train.eval_period:
        yield KeyFault(
            "train.early_stopping",
            f"is {train.early_stopping}, which needs periodic evaluations: set train.eval_period",
        )
    workers = max(train.num_gpus, train.num_processes)
    if train.min_workers is not None and train.launcher != "ray":
        yield KeyFault("train.min_workers", "is only for train.launcher: ray; set it to null")
    elif train.min_workers is not None and train.min_workers > workers:
        yield KeyFault(
            "train.min_workers",
            f"is {train.min_workers}, must be at most the {workers} workers of train.num_gpus or "
            "train.num_processes",
        )
    if train.images_per_step is not None and train.images_per_step % workers:
        yield KeyFault(
            "train.images_per_step",
            f"is {train.images_per_step}, must be a multiple of the {workers} processes that "
            "share a step",
        )


def _check_ablation(study: Ablation, key: str) -> Iterator[KeyFault]:
    names = list(study.variants)
    if not _NAME.match(key.split(".", 1)[1]):
        yield KeyFault(key, "is used as a folder; use letters, digits, _ and -")
    if not names:
        yield KeyFault(
            f"{key}.variants", "is {}, must be a mapping (name: changes), or give a grid"
        )
    elif study.baseline not in names:
        near = schema.nearest(study.baseline, names)
        yield KeyFault(
            f"{key}.baseline", f"is {study.baseline}, must be one of {', '.join(names)}{near}"
        )
    for i, seed in enumerate(study.seeds):
        if seed in study.seeds[:i]:
            yield KeyFault(f"{key}.seeds[{i}]", f"is {seed}, which is already in the list")
    seen: dict[str, str] = {}
    for name, changes in study.variants.items():
        dotted = f"{key}.variants.{name}"
        if not _NAME.match(name):
            yield KeyFault(dotted, "is used as a folder; use letters, digits, _ and -")
        yield from check_changes(changes, dotted)
        content = json.dumps(changes, sort_keys=True, default=str)
        if content in seen:
            yield KeyFault(dotted, f"equals variant {seen[content]}; every variant must differ")
        seen.setdefault(content, name)
    yield from _check_published(study, key)
    yield from check_axis(study, key)


def _check_published(study: Ablation, key: str) -> Iterator[KeyFault]:
    for name in study.published or {}:
        if name not in study.variants:
            near = schema.nearest(name, study.variants)
            yield KeyFault(f"{key}.published.{name}", f"is not a variant of the study{near}")
    if study.published and not (study.published_from and study.published_data):
        yield KeyFault(
            f"{key}.published_from",
            "and published_data must say where published figures come from and on which dataset",
        )


def _check_sweep(sweep: Sweep) -> Iterator[KeyFault]:
    for name, distribution in sweep.space.items():
        key = f"sweep.space.{name}"
        problem = _key_problem(name, sections=True)
        if problem:
            yield KeyFault(key, problem)
        if len(distribution) != 1 or not set(distribution) <= set(DISTRIBUTIONS):
            near = schema.nearest(next(iter(distribution), ""), DISTRIBUTIONS)
            yield KeyFault(key, f"must hold exactly one of {', '.join(DISTRIBUTIONS)}{near}")
            continue
        ((kind, values),) = distribution.items()
        yield from _check_distribution(kind, values, f"{key}.{kind}")


def _check_distribution(kind: str, values: object, key: str) -> Iterator[KeyFault]:
    count = DISTRIBUTIONS[kind]
    if not isinstance(values, list) or not values or (count and len(values) != count):
        wanted = "[low, high]" if count else "a list with at least one value"
        yield KeyFault(key, f"is {schema.show(values)}, must be {wanted}")
        return
    if not count:
        return
    numbers = int if kind == "int_uniform" else (int, float)
    if not all(
        isinstance(v, numbers) and not isinstance(v, bool) and math.isfinite(v) for v in values
    ):
        yield KeyFault(
            key,
            f"is {schema.show(values)}, must be two {'integers' if numbers is int else 'numbers'}",
        )
    elif values[0] >= values[1]:
        yield KeyFault(key, f"is {schema.show(values)}, the first must be less than the second")
    elif kind == "log_uniform" and values[0] <= 0:
        yield KeyFault(key, f"is {schema.show(values)}, both must be above 0")
