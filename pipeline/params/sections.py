"""The sections of params.yaml as frozen dataclasses.

Field names are the keys of the file. `null` in `train` means the value of the model recipe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from condinst.metrics import METRICS, PRIMARY
from pipeline.params import schema
from pipeline.params.schema import setting


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a dataset whose files are anywhere: a folder of images and their labels.

    `coco` needs `json`. The others may have `labels`, a folder, if it is not where the format
    usually has it, `names`, the file with the class names (required for yolo-seg), and `list`, the
    file that lists the images of this split.
    """

    format: str = setting("coco", choices=("coco", "yolo-seg", "voc", "labelme"))
    images: str = setting()
    json: str | None = setting(None)
    labels: str | None = setting(None)
    names: str | None = setting(None)
    list: str | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class RandomSplit(Split):
    """One folder of images with labels, split at random: `val_share` of them become val."""

    val_share: float = setting(above=0, below=1)
    seed: int = setting(0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The dataset that the project draws; the same values give the same bytes."""

    seed: int = setting(minimum=0)
    train_images: int = setting(minimum=1)
    val_images: int = setting(minimum=1)


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A subset of `coco2017`: this many images per split, fetched one by one; null: all.

    `train: 0` leaves train out. The images are the first ones by `id`, or drawn by `seed`; a larger
    subset contains a smaller one.
    """

    train: int | None = setting(None, minimum=0)
    val: int | None = setting(None, minimum=1)
    order: str = setting("id", choices=("id", "seed"))
    seed: int = setting(0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Masks that a training sees: `share` of them, chosen by `seed`; null: all.

    The other objects count as having only a box, so the recipe must also learn from boxes. With the
    same seed a larger share contains a smaller one.
    """

    share: float = setting(minimum=0, maximum=1)
    seed: int = setting(0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Where the data comes from. `directory` needs `root`, `train` and `val`, or `split`.

    `classes` maps names in the data to new names (the same one merges them) or to null (left out).
    `crowd: objects` treats annotations with iscrowd 1 as single objects, for tools that flag brush
    masks that way.

    `mirror` replaces the host of `coco2017`: a URL, bucket or folder with `zips` and
    `annotations` below it, or a folder with COCO unpacked.
    """

    source: str = setting(choices=("sample", "directory", "coco2017"))
    name: str = setting()
    root: str | None = setting(None)
    mirror: str | None = setting(None)
    train: Split | None = setting(None)
    val: Split | None = setting(None)
    split: RandomSplit | None = setting(None)
    subset: Subset | None = setting(None)
    classes: Mapping[str, str | None] | None = setting(None, filled=False)
    crowd: str = setting("keep", choices=("keep", "objects"))
    masks: Masks | None = setting(None)
    sample: Sample | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Faulty data: `strict` stops and lists all of it; `drop` leaves it out.

    `repair` fixes what has one right answer and leaves out the rest.
    """

    policy: str = setting(choices=("strict", "repair", "drop"))


@dataclass(frozen=True, kw_only=True)
class Model:
    """The recipe, the weights to start from (null: the recipe's), keys that override it."""

    config: str = setting()
    weights: str | None = setting(None)
    overrides: Mapping[str, Any] = setting(filled=False)


@dataclass(frozen=True, kw_only=True)
class Train:
    """The training; null: the recipe's value."""

    seed: int = setting(minimum=0, maximum=2**31 - 1)
    steps: int | None = setting(minimum=1)
    images_per_step: int | None = setting(minimum=1)
    lr: float | None = setting(above=0)
    warmup_steps: int | None = setting(minimum=0)
    checkpoint_period: int | None = setting(minimum=1)
    eval_period: int | None = setting(minimum=0)
    clip_gradients: float | None = setting(minimum=0)
    amp: str = setting(choices=("none", "bf16", "fp16"))
    workers: int = setting(minimum=0, maximum=256)
    num_gpus: int = setting(minimum=0)
    num_processes: int = setting(minimum=1)
    threads: int | None = setting(None, minimum=1, maximum=1024)
    memory_format: str = setting("auto", choices=("auto", "contiguous", "channels_last"))
    launcher: str = setting("processes", choices=("processes", "ray"))
    min_workers: int | None = setting(None, minimum=1)
    accumulate: int = setting(1, minimum=1)
    ema: float = setting(0.0, minimum=0, below=1)
    sync_bn: bool = setting(False)
    activation_checkpoints: bool = setting(False)
    deterministic: bool = setting(False)
    early_stopping: int = setting(0, minimum=0)
    keep_checkpoints: int = setting(2, minimum=2)
    max_skipped_steps: int = setting(0, minimum=0)
    skip_preflight: bool = setting(False)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How detections are made and measured."""

    backend: str = setting(choices=("auto", "pycocotools", "hotcoco"))
    max_detections: int = setting(minimum=1)
    score_threshold: float = setting(minimum=0, below=1)
    precision: str = setting("fp32", choices=("fp32", "bf16", "fp16"))


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A study: every variant is a full training and evaluation for each seed.

    `variants` maps a name to its changes: detectron2 keys, or `train.*` and `model.*` of this file.
    `grid` adds every combination of its axes; it is expanded when the file is read. All are
    compared with `baseline`. `published` has mask AP that others published for a variant;
    `published_from` says where and `published_data`, a dataset's name, on which data.
    `primary` is the one metric that the verdicts are about, declared before the study runs.

    `axis` is the key over which the report draws a curve; every variant gives it a number. Null:
    the only key that differs between the variants, if it is a number in all of them.
    """

    question: str = setting()
    baseline: str = setting()
    seeds: tuple[int, ...] = setting(minimum=0, maximum=2**31 - 1)
    steps: int | None = setting(minimum=1)
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(
        default_factory=dict, metadata={"rule": schema.Rule(filled=False)}
    )
    grid: Mapping[str, Any] | None = setting(None, filled=False)
    published: Mapping[str, float] | None = setting(None)
    published_from: str | None = setting(None)
    published_data: str | None = setting(None)
    primary: str = setting(PRIMARY, choices=METRICS)
    axis: str | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """The paired bootstrap, and what follows from its intervals.

    `margin` holds the points of the primary metric that make no difference in practice. The
    verdicts of a `family` hold together with the confidence: those of a study, or of all studies.

    `mask_seconds` and `box_seconds` are what it takes to draw an object's mask, or its box alone; a
    study of masks tells by them what its variants' annotations cost. A mask gives its box.
    """

    draws: int = setting(minimum=10)
    confidence: float = setting(above=0, below=1)
    seed: int = setting(minimum=0)
    margin: float = setting(0.3, above=0)
    family: str = setting("study", choices=("study", "report"))
    mask_seconds: float = setting(79.2, minimum=0)
    box_seconds: float = setting(7.0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """How many images of each kind the report shows."""

    best: int = setting(minimum=0)
    worst: int = setting(minimum=0)
    random: int = setting(minimum=0)
    seed: int = setting(minimum=0)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A search over `space`: keys as in an ablation's variant, values are distributions."""

    metric: str = setting(choices=METRICS)
    trials: int = setting(minimum=1)
    steps: int | None = setting(minimum=1)
    seed: int = setting(minimum=0)
    space: Mapping[str, Mapping[str, Any]] = setting()


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """MLflow: on or off, and the experiment's name.

    The server is MLFLOW_TRACKING_URI, else the project's own file.
    """

    enabled: bool = setting()
    experiment: str = setting()


@dataclass(frozen=True, kw_only=True)
class Ray:
    """The cluster for ablations, sweeps and `train.launcher: ray`; null: this machine.

    `storage` is for such a training's checkpoints; null: `.runs`, on a disk that all machines
    share.
    """

    address: str | None = setting(None)
    storage: str | None = setting(None)
    failures: int = setting(3, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Params:
    """The whole file."""

    profile: str = setting()
    dataset: Dataset = setting()
    prepare: Prepare = setting()
    model: Model = setting()
    train: Train = setting()
    evaluate: Evaluate = setting()
    ablations: Mapping[str, Ablation] = setting(filled=False)
    compare: Compare = setting()
    report: Report = setting()
    sweep: Sweep = setting()
    tracking: Tracking = setting()
    ray: Ray = setting()
