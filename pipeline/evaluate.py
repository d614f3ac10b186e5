"""The stage ``evaluate``: box and mask AP of trained weights on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from condinst import checkpoint, evaluation
from condinst.errors import UserError
from pipeline import runs, scoring, tracking
from pipeline.params import Params
from pipeline.recipe import PREPARED, VAL_NAME, PreparedData, load_resolved
from pipeline.scoring import Metrics, ScoreCard

OUTPUT = Path("outputs/evaluate")
TRAINED = Path("outputs/train")


def run(params: Params) -> None:
    """Evaluate ``outputs/train`` on the prepared validation split, into ``outputs/evaluate``.

    Raises:
        UserError: weights or data are missing, or do not belong together; nothing is written.
    """
    record = runs.read_json(TRAINED / "run.json", "train")
    data = PreparedData.load()
    if record.get("data_hash") != data.hash:
        raise UserError(
            f"{TRAINED} was trained on other data ({record.get('data_hash')}) than {PREPARED} "
            f"holds ({data.hash}): run `python cli.py train` again"
        )
    cfg = load_resolved(TRAINED / "config.yaml")
    metrics = evaluate_run(cfg, TRAINED / "model.pth", data.root, OUTPUT, params)
    about = runs.read_json(OUTPUT / "evaluation.json", "evaluate")
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
        artifacts=[OUTPUT / name for name in files],
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
    """Evaluate weights on prepared data and leave everything known about it in a folder.

    Args:
        cfg: that the weights were trained by.
        weights_path: ours or, where the architecture fits, any that `condinst.checkpoint` reads.
        data_dir: what the stage ``prepare`` left.
        out_dir: replaced as a whole when all is done.
        params: its section ``evaluate`` counts.
        progress: show images done, and the table at the end.

    Returns:
        Task (``bbox``, ``segm``) to the twelve numbers, in percent, None where undefined.

    Raises:
        UserError: weights or data cannot be used; ``out_dir`` stays as it was.
    """
    data = PreparedData.load(Path(data_dir))
    weights = Path(weights_path)
    if not weights.is_file():
        raise UserError(f"{weights} is missing; run `python cli.py train` first")
    if len(data.classes) != cfg.MODEL.FCOS.NUM_CLASSES:
        raise UserError(
            f"{weights} tells {cfg.MODEL.FCOS.NUM_CLASSES} classes apart, but {data.name} in "
            f"{data_dir} has {len(data.classes)}: train on this data, or evaluate on the other"
        )
    model, cfg = _load(_with_limits(cfg, params), weights)
    data.register()
    annotations = Path(data_dir) / "val" / "annotations.json"
    limit = params.evaluate.max_detections
    card = scoring.score(
        annotations,
        evaluation.predict_dataset(model, VAL_NAME, cfg, progress),
        backend=params.evaluate.backend,
        max_dets=limit,
    )
    about = {
        "dataset": data.name,
        "data_hash": data.hash,
        "score_threshold": params.evaluate.score_threshold,
        **_about_weights(weights),
    }
    _publish(card, Path(out_dir), about, progress)
    return card.scores.metrics


def evaluate_model(
    model: nn.Module, cfg: CfgNode, data_dir: Path, folder: Path, params: Params
) -> Metrics:
    """Measure a model in the middle of its training; leaves ``metrics.json`` alone in ``folder``.

    Args:
        model: as it is trained.
        cfg: that it is trained by.
        data_dir: what the stage ``prepare`` left, already registered.
        folder: for the numbers of the last such evaluation.
        params: its section ``evaluate`` counts; limits on detections are those of ``cfg``.
    """
    found = evaluation.predict_dataset(model, VAL_NAME, cfg, progress=False)
    scores = evaluation.evaluate_coco(
        Path(data_dir) / "val" / "annotations.json",
        found,
        backend=params.evaluate.backend,
        max_dets=params.evaluate.max_detections,
    )
    runs.write_json(folder / "metrics.json", scores.metrics)
    return scores.metrics


def evaluate_registered(
    cfg: CfgNode, weights: str | Path, out_dir: str | Path
) -> dict[str, Metrics]:
    """Evaluate weights on the datasets that a recipe names in ``DATASETS.TEST``.

    Args:
        cfg: the recipe, resolved.
        weights: file, URL or name that `condinst.checkpoint` knows.
        out_dir: gets a folder ``evaluate/<dataset>`` for each.

    Returns:
        Dataset name to its metrics.

    Raises:
        UserError: a dataset is not registered or its files are missing, or the weights do not fit.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the datasets to evaluate on")
    sources = {name: _annotations_of(name) for name in cfg.DATASETS.TEST}
    model, cfg = _load(cfg, weights)
    results = {}
    for name, truth in sources.items():
        card = scoring.score(truth, evaluation.predict_dataset(model, name, cfg))
        about = {"dataset": name, "data_hash": runs.file_hash(truth), **_about_weights(weights)}
        _publish(card, Path(out_dir) / "evaluate" / name, about, True)
        results[name] = card.scores.metrics
    return results


def _publish(card: ScoreCard, output: Path, about: Mapping[str, Any], shown: bool) -> None:
    scoring.publish(card, output, about)
    if shown:
        scoring.show(card, output)


def _with_limits(cfg: CfgNode, params: Params) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.FCOS.INFERENCE_TH_TEST = params.evaluate.score_threshold
    cfg.MODEL.FCOS.POST_NMS_TOPK_TEST = params.evaluate.max_detections
    cfg.TEST.DETECTIONS_PER_IMAGE = params.evaluate.max_detections
    return cfg


def _load(cfg: CfgNode, weights: str | Path) -> tuple[nn.Module, CfgNode]:
    from detectron2.modeling import build_model

    model = build_model(cfg)
    checkpoint.load_weights(model, weights, strict=True)
    return model.eval(), cfg


def _annotations_of(name: str) -> Path:
    if name not in DatasetCatalog.list():
        raise UserError(f"DATASETS.TEST names {name!r}, which is not registered with detectron2")
    path = getattr(MetadataCatalog.get(name), "json_file", None)
    if path is None or not Path(path).is_file():
        raise UserError(
            f"the annotations of {name} are not at {path}: put COCO's folder where the variable "
            "DETECTRON2_DATASETS points, or run `python cli.py acquire`"
        )
    return Path(path)


def _about_weights(weights: str | Path) -> dict[str, Any]:
    path = Path(weights)
    if not path.is_file():
        return {"weights": str(weights)}
    about: dict[str, Any] = {"weights": str(weights), "weights_sha256": runs.file_hash(path)}
    record = path.with_name("run.json")
    if record.is_file():
        content = runs.read_json(record, "train")
        about |= {key: content.get(key) for key in ("run_id", "hash", "steps", "seed")}
    return about
