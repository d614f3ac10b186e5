"""The stage ``evaluate``: box, mask and boundary AP of trained weights on the validation split."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from condinst.atomic import write_json
from condinst.checkpoint.loading import load_weights
from condinst.errors import UserError
from condinst.evaluation.prediction import predict_dataset
from condinst.layers.threads import limited
from pipeline import runs, tracking
from pipeline.evaluate import scoring
from pipeline.evaluate.scoring import Metrics
from pipeline.identity import FILE, explanation, of_evaluation
from pipeline.layout import EVALUATED, PREPARED, TRAINED
from pipeline.params import Params, as_dict
from pipeline.recipe import VAL_NAME, PreparedData, load_resolved


def run(params: Params) -> None:
    """Evaluate ``outputs/train`` on the prepared validation split, into ``outputs/evaluate``.

    Raises:
        UserError: weights or data are missing or do not match; nothing is written.
    """
    record = runs.read_json(TRAINED / "run.json", "train")
    data = PreparedData.load()
    if record.get("data_hash") != data.hash:
        raise UserError(
            f"{TRAINED} was trained on other data ({record.get('data_hash')}) than {PREPARED} "
            f"({data.hash}): run `python cli.py train` again"
        )
    cfg = load_resolved(TRAINED / "config.yaml")
    metrics = evaluate_run(cfg, TRAINED / "model.pth", data.root, EVALUATED, params)
    about = runs.read_json(EVALUATED / "evaluation.json", "evaluate")
    files = (
        "metrics.json",
        "per_class.json",
        "evaluation.json",
        "pr_curves.csv",
        "detections.json",
    )
    tracking.log_evaluation(
        params,
        record.get("run_id"),
        metrics,
        step=int(record.get("steps", 0)),
        tags={key: str(about[key]) for key in ("evaluator", "evaluator_version", "data_hash")},
        artifacts=[EVALUATED / name for name in files],
    )


def evaluate_run(
    cfg: CfgNode,
    weights_path: str | Path,
    data_dir: str | Path,
    out_dir: str | Path,
    params: Params,
    *,
    progress: bool = True,
) -> Metrics:
    """Evaluate weights on prepared data and write all results to a folder.

    Args:
        cfg: the config that the weights were trained with.
        weights_path: ours or, where the architecture fits, any that `condinst.checkpoint` reads.
        data_dir: output of the stage ``prepare``.
        out_dir: replaced as a whole at the end.
        params: uses its section ``evaluate``.
        progress: show progress, and the table at the end.

    Returns:
        Task (of `condinst.metrics.TASKS`) to the twelve metrics, in percent, None where undefined.

    Raises:
        UserError: weights or data cannot be used; ``out_dir`` is unchanged.
    """
    data = PreparedData.load(Path(data_dir))
    weights = Path(weights_path)
    if not weights.is_file():
        raise UserError(f"{weights} is missing; run `python cli.py train` first")
    if len(data.classes) != cfg.MODEL.FCOS.NUM_CLASSES:
        raise UserError(
            f"{weights} predicts {cfg.MODEL.FCOS.NUM_CLASSES} classes, but {data.name} in "
            f"{data_dir} has {len(data.classes)}: train on this data, or evaluate on the other"
        )
    cfg = _with_limits(cfg, params)
    model = _load(cfg, weights, params.evaluate.precision)
    data.register()
    annotations = Path(data_dir) / "val" / "annotations.json"
    limit = params.evaluate.max_detections
    card = scoring.score(
        annotations,
        predict_dataset(model, VAL_NAME, cfg, progress),
        backend=params.evaluate.backend,
        max_dets=limit,
        untaught=_untaught(data),
    )
    about = {
        "dataset": data.name,
        "data_hash": data.hash,
        "score_threshold": params.evaluate.score_threshold,
        "precision": params.evaluate.precision,
        **about_weights(weights),
    }
    scoring.publish(card, Path(out_dir), about)
    if progress:
        scoring.show(card, Path(out_dir))
    return card.scores.metrics


def _untaught(data: PreparedData) -> list[str]:
    """Classes of val without objects in train; empty if there is no train."""
    splits = runs.read_json(data.root / "dataset.json", "prepare")["splits"]
    train, val = (splits.get(name, {}).get("per_category") for name in ("train", "val"))
    if train is None or val is None:
        return []
    return [name for name, count in val.items() if count and not train.get(name)]


def evaluate_once(
    cfg: CfgNode, weights: Path, data: PreparedData, out_dir: Path, params: Params, key: str
) -> Metrics:
    """Evaluate a training's weights, or reuse the result of an earlier identical evaluation.

    Args:
        cfg: the config that the weights were trained with.
        weights: of the training, beside its ``run.json``.
        data: prepared.
        out_dir: replaced as a whole.
        params: uses its section ``evaluate``, and ``train.threads``.
        key: of the training.

    Returns:
        As `evaluate_run`.
    """
    threads = params.train.threads or 0
    identity = of_evaluation(as_dict(params)["evaluate"], data.hash, threads=threads)
    kept = (runs.RUNS / key / "evaluations" / identity.key).resolve()
    if not (kept / "metrics.json").is_file():
        why = explanation(identity, kept.parent, done="measured")
        if why:
            sys.stderr.write(f"{out_dir}: {why}\n")
        with limited(threads):
            evaluate_run(cfg, weights, data.root, kept, params, progress=False)
        write_json(kept / FILE, dataclasses.asdict(identity))
    runs.publish({path.name: path for path in kept.iterdir() if path.name != FILE}, out_dir)
    about = runs.read_json(out_dir / "evaluation.json", "evaluate")
    about |= {"evaluation": identity.key, **about_weights(weights)}
    write_json(out_dir / "evaluation.json", about)
    return runs.read_json(out_dir / "metrics.json", "evaluate")


def _with_limits(cfg: CfgNode, params: Params) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.FCOS.INFERENCE_TH_TEST = params.evaluate.score_threshold
    cfg.MODEL.FCOS.POST_NMS_TOPK_TEST = params.evaluate.max_detections
    cfg.TEST.DETECTIONS_PER_IMAGE = params.evaluate.max_detections
    return cfg


def _load(cfg: CfgNode, weights: str | Path, precision: str) -> nn.Module:
    from detectron2.modeling import build_model

    from condinst.inference.inference_copy import inference_copy

    model = build_model(cfg)
    load_weights(model, weights, strict=True)
    return inference_copy(model, precision)


def about_weights(weights: str | Path) -> dict[str, Any]:
    """What is known about the weights, for ``evaluation.json``."""
    path = Path(weights)
    if not path.is_file():
        return {"weights": str(weights)}
    about: dict[str, Any] = {"weights": str(weights), "weights_sha256": runs.file_hash(path)}
    record = path.with_name("run.json")
    if record.is_file():
        content = runs.read_json(record, "train")
        about |= {key: content.get(key) for key in ("run_id", "hash", "steps", "seed")}
    return about
