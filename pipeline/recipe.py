"""From params.yaml to the detectron2 config for training and evaluation."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import torch
from detectron2.config import CfgNode

from condinst.config import load_config, memory_format
from condinst.cores import available_cores
from condinst.data.input_config import set_deep_ranges
from condinst.errors import UserError
from pipeline.layout import PREPARED
from pipeline.params import Params, Train

TRAIN_NAME = "condinst_train"
VAL_NAME = "condinst_val"


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """The output of the stage ``prepare``.

    Attributes:
        root: its folder, with one folder per split.
        name: the dataset's own name.
        hash: identifies its content.
        classes: names in order of the contiguous class index.
        ranges: how values of more than 8 bits are scaled, see :mod:`condinst.files.pixels`.
    """

    root: Path
    name: str
    hash: str
    classes: tuple[str, ...]
    ranges: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, root: Path = PREPARED) -> PreparedData:
        """Read ``dataset.json``.

        Raises:
            UserError: it is missing or damaged.
        """
        path = Path(root) / "dataset.json"
        try:
            values = json.loads(path.read_text())
            names = tuple(category["name"] for category in values["categories"])
            ranges = values.get("ranges", {})
            return cls(Path(root).resolve(), values["name"], values["hash"], names, ranges)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; run `python cli.py prepare` first") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged; run `python cli.py prepare` again") from error

    def register(self) -> None:
        """Register both splits with detectron2 as ``condinst_train`` and ``condinst_val``."""
        from condinst.data.registration import register_index

        register_index(TRAIN_NAME, self.root / "train")
        register_index(VAL_NAME, self.root / "val")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A resolved config.

    Attributes:
        cfg: it.
        notes: on choices that the user did not make.
        any_format: the memory format is left to the machine; the one in ``cfg`` is the usual one.
    """

    cfg: CfgNode
    notes: tuple[str, ...]
    any_format: bool = False


def resolve(params: Params, data: PreparedData) -> Recipe:
    """Apply params.yaml and the dataset's classes to the model recipe.

    Null values in ``train`` keep the recipe's. If the images per step differ from the recipe's,
    learning rate, warm-up and steps follow the linear scaling rule unless params fix them.

    Raises:
        UserError: the recipe is missing, a key is unknown, or the request cannot be run here.
    """
    overrides = [text for item in params.model.overrides.items() for text in map(str, item)]
    masks = params.dataset.masks
    if masks is not None:
        hidden = {"INPUT.MASKS.SHARE": masks.share, "INPUT.MASKS.SEED": masks.seed}
        overrides = [text for item in hidden.items() for text in map(str, item)] + overrides
    cfg = load_config(params.model.config, overrides)
    train = params.train
    notes = set_schedule(
        cfg,
        images_per_step=train.images_per_step,
        steps=train.steps,
        lr=train.lr,
        warmup_steps=train.warmup_steps,
    )
    cores = available_cores()
    if (train.threads or 0) > cores and not train.num_gpus:
        notes.append(
            f"train.threads = {train.threads} on {cores} cores is slower than {cores}; it is kept, "
            "since the numbers depend on it"
        )
    cfg.MODEL.FCOS.NUM_CLASSES = len(data.classes)
    set_deep_ranges(cfg, data.ranges)
    there = torch.cuda.is_available() or train.launcher == "ray"  # perhaps on other machines
    cfg.MODEL.DEVICE = "cuda" if train.num_gpus and there else "cpu"
    cfg.SEED = train.seed
    if params.model.weights is not None:
        cfg.MODEL.WEIGHTS = params.model.weights
    if train.checkpoint_period is not None:
        cfg.SOLVER.CHECKPOINT_PERIOD = train.checkpoint_period
    _set_clipping(cfg, train.clip_gradients)
    cfg.SOLVER.AMP.ENABLED = train.amp != "none"
    cfg.SOLVER.AMP.DTYPE = {"bf16": "bfloat16", "fp16": "float16"}.get(train.amp, "auto")
    _set_long_training(cfg.SOLVER, train)
    cfg.SOLVER.NUM_THREADS = threads(train) if cfg.MODEL.DEVICE == "cpu" else 0
    if train.memory_format != "auto":
        cfg.SOLVER.MEMORY_FORMAT = train.memory_format
    any_format = cfg.SOLVER.MEMORY_FORMAT == "auto"
    cfg.SOLVER.MEMORY_FORMAT = memory_format(cfg)
    cfg.DATALOADER.NUM_WORKERS = train.workers
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (TRAIN_NAME,), (VAL_NAME,)
    return Recipe(cfg, tuple(notes), any_format)


def threads(train: Train) -> int:
    """Threads per process of a training on a CPU.

    Null means OMP_NUM_THREADS if set, else all cores for a single process, else one.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    usual = int(given) if given.isdigit() else available_cores() if train.num_processes == 1 else 1
    return train.threads or max(1, usual)


def own_threads(params: Params) -> dict[str, int]:
    """The change that sets each training's threads in a study, however many run in parallel."""
    return {} if params.train.num_gpus else {"train.threads": params.train.threads or 1}


def set_schedule(
    cfg: CfgNode,
    *,
    images_per_step: int | None,
    steps: int | None,
    lr: float | None,
    warmup_steps: int | None,
) -> list[str]:
    """Set images per step; what is None follows the linear scaling rule. Returns notes.

    Drops of the learning rate keep their position relative to the steps.

    Args:
        cfg: with the recipe's own schedule; changed in place.
        images_per_step: None keeps the recipe's.
        steps: in all.
        lr: the base learning rate.
        warmup_steps: steps of warm-up.
    """
    solver, notes = cfg.SOLVER, []
    factor = 1.0
    if images_per_step is not None and images_per_step != solver.IMS_PER_BATCH:
        factor = images_per_step / solver.IMS_PER_BATCH
        notes.append(
            f"{images_per_step} images per step instead of {solver.IMS_PER_BATCH}: learning rate, "
            "warm-up and steps that train leaves null follow the linear scaling rule"
        )
        solver.IMS_PER_BATCH = images_per_step
    before = solver.MAX_ITER
    steps = steps if steps is not None else max(1, round(before / factor))
    drops = {round(step * steps / before) for step in solver.STEPS if step < before}
    solver.STEPS = tuple(sorted(step for step in drops if 0 < step < steps))
    solver.MAX_ITER = steps
    lr = lr if lr is not None else solver.BASE_LR * factor
    solver.BASE_LR_END *= lr / solver.BASE_LR
    solver.BASE_LR = lr
    warmup = warmup_steps if warmup_steps is not None else round(solver.WARMUP_ITERS / factor)
    solver.WARMUP_ITERS = min(warmup, steps)
    if factor != 1:
        notes[0] += (
            f" (lr {lr:g}, warm-up {solver.WARMUP_ITERS}, steps {steps}, drops at "
            f"{list(solver.STEPS)})"
        )
    if warmup > steps:
        notes.append(f"warm-up of {warmup} steps cut to all {steps} steps")
    return notes


def _set_long_training(solver: CfgNode, train: Train) -> None:
    """Copy keys that have much the same names in both."""
    solver.ACCUMULATE = train.accumulate
    solver.EMA = train.ema
    solver.SYNC_BN = train.sync_bn
    solver.RECOMPUTE_BACKBONE = train.activation_checkpoints
    solver.DETERMINISTIC = train.deterministic
    solver.PATIENCE = train.early_stopping
    solver.KEEP_CHECKPOINTS = train.keep_checkpoints
    solver.MAX_SKIPPED_STEPS = train.max_skipped_steps


def _set_clipping(cfg: CfgNode, limit: float | None) -> None:
    if limit is None:
        return
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED = limit > 0
    clip.CLIP_TYPE, clip.NORM_TYPE = "full_model", 2.0
    clip.CLIP_VALUE = float(limit)


def load_resolved(path: Path) -> CfgNode:
    """The ``config.yaml`` that a training left, for this machine's device.

    Raises:
        UserError: the file is missing or not a config.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is missing; run `python cli.py train` first")
    cfg = load_config(path)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg
