"""Training from a recipe file alone, as in the public repositories."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.utils import comm

from condinst import engine
from condinst.config import load_config
from condinst.errors import UserError
from condinst.evaluation.prediction import predict_dataset
from pipeline.evaluate import scoring
from pipeline.recipe import set_schedule
from pipeline.train import preflight
from pipeline.train.job import figures_of, load_cfg, load_weights
from pipeline.train.options import TrainOptions


def train_from_config_file(
    config_file: str | Path,
    num_gpus: int = 1,
    eval_only: bool = False,
    resume: bool = False,
    opts: Sequence[str] = (),
    *,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    num_processes: int = 1,
    options: TrainOptions | None = None,
) -> None:
    """Train or evaluate as the public repositories' ``tools/train_net.py`` does.

    The datasets named in the YAML are used directly: detectron2 finds them in the folder
    DETECTRON2_DATASETS. Weights, curve and checkpoints go to ``OUTPUT_DIR``.

    Args:
        config_file: a recipe of ours or of either public implementation.
        num_gpus: on this machine; 0 trains on the CPU.
        eval_only: evaluate ``MODEL.WEIGHTS`` (or the trained weights with ``resume``).
        resume: continue from the last checkpoint in ``OUTPUT_DIR``.
        opts: KEY VALUE pairs that override the file.
        num_machines: how many run this same command.
        machine_rank: rank of this machine.
        dist_url: where the processes meet.
        num_processes: on the CPU, with ``num_gpus`` 0.
        options: for this call only.

    Raises:
        UserError: the request cannot be run.
    """
    engine.check_gpus(num_gpus)
    reference = load_config(str(config_file))
    cfg = load_config(str(config_file), list(opts))
    options = options or TrainOptions()
    _apply(options, cfg)
    if num_gpus == 0:
        cfg.MODEL.DEVICE = "cpu"
    if resume and eval_only:
        cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model.pth")
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR).resolve())
    if not eval_only:
        notes = _follow_linear_rule(cfg, reference, set(opts[::2]))
        notes += preflight.check(
            cfg,
            reference,
            classes=preflight.classes_of(cfg.DATASETS.TRAIN),
            workers=engine.count_workers(num_gpus, num_processes, num_machines),
            skip_preflight=options.skip_preflight,
        )
        sys.stderr.writelines(f"note: {note}\n" for note in notes)
    engine.launch(
        _evaluate_config if eval_only else _train_config,
        (cfg.dump(), resume),
        num_gpus=num_gpus,
        num_processes=num_processes,
        num_machines=num_machines,
        machine_rank=machine_rank,
        dist_url=dist_url,
    )


def _apply(options: TrainOptions, cfg: CfgNode) -> None:
    cfg.SOLVER.MAX_SECONDS = options.max_seconds
    cfg.DEBUG.OVERFIT = options.overfit
    cfg.DEBUG.DETECT_ANOMALY = options.detect_anomaly
    cfg.DEBUG.PROFILE = options.profile
    if options.fast_dev_run:
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 3, (), 0
        cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 1, 2


def _follow_linear_rule(cfg: CfgNode, reference: CfgNode, given: set[str]) -> list[str]:
    """Adapt keys that were not given to another batch size; returns notes on what was done."""
    ours, theirs, images = cfg.SOLVER, reference.SOLVER, cfg.SOLVER.IMS_PER_BATCH
    if images == theirs.IMS_PER_BATCH or cfg.DEBUG.OVERFIT:
        return []
    asked = {
        key: ours[key] if f"SOLVER.{key}" in given else None
        for key in ("MAX_ITER", "BASE_LR", "WARMUP_ITERS", "STEPS")
    }
    for key in ("IMS_PER_BATCH", *asked):
        ours[key] = theirs[key]
    notes = set_schedule(
        cfg,
        images_per_step=images,
        steps=asked["MAX_ITER"],
        lr=asked["BASE_LR"],
        warmup_steps=asked["WARMUP_ITERS"],
    )
    if asked["STEPS"] is not None:
        ours.STEPS = asked["STEPS"]
    return [*notes, "give SOLVER.BASE_LR, WARMUP_ITERS, MAX_ITER and STEPS to fix them"]


def _train_config(text: str, resume: bool) -> None:
    cfg = load_cfg(text)
    output = Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.yaml").write_text(text)
    hooks: list[HookBase] = []
    if cfg.TEST.EVAL_PERIOD > 0 and cfg.DATASETS.TEST:
        name, annotations = next(iter(_test_sets(cfg).items()))
        hooks.append(
            engine.EvaluationHook(
                cfg.TEST.EVAL_PERIOD,
                lambda model: figures_of(model, cfg, name, annotations),
                patience=cfg.SOLVER.PATIENCE,
            )
        )
    engine.train(cfg, hooks=hooks, resume=resume, load_weights=load_weights)
    if cfg.DATASETS.TEST:
        cfg.MODEL.WEIGHTS = str(output / "model.pth")
        _evaluate_config(cfg.dump(), resume)


def _evaluate_config(text: str, resume: bool) -> None:
    """Evaluate the weights on DATASETS.TEST; the first process does it and the others wait."""
    cfg = load_cfg(text)
    if comm.is_main_process():
        if not cfg.MODEL.WEIGHTS:
            raise UserError(
                "MODEL.WEIGHTS is empty: give the weights to evaluate, or add --resume to use "
                "those in OUTPUT_DIR"
            )
        sets = _test_sets(cfg)
        model = build_model(cfg)
        load_weights(model, cfg.MODEL.WEIGHTS)
        for name, annotations in sets.items():
            detections = predict_dataset(model, name, cfg)
            card = scoring.score(annotations, detections)
            output = Path(cfg.OUTPUT_DIR) / "evaluate" / name
            scoring.publish(card, output, {"dataset": name, "weights": cfg.MODEL.WEIGHTS})
            scoring.show(card, output)
    comm.synchronize()


def _test_sets(cfg: CfgNode) -> dict[str, Path]:
    """Names and annotations of the datasets to evaluate on."""
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: give the datasets to evaluate on")
    found = {}
    for name in cfg.DATASETS.TEST:
        if name not in DatasetCatalog.list():
            raise UserError(f"DATASETS.TEST contains {name!r}, which is not registered")
        path = Path(getattr(MetadataCatalog.get(name), "json_file", "") or "")
        if not path.is_file():
            raise UserError(
                f"the annotations of {name} are not at {path}; set DETECTRON2_DATASETS to the "
                "folder with coco/annotations and coco/val2017"
            )
        found[name] = path
    return found
