"""One training, as each of its processes runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from condinst import engine
from condinst.config import get_cfg
from condinst.errors import UserError
from condinst.metrics import TASKS
from pipeline import tracking
from pipeline.console import terminal
from pipeline.identity import training_code, versions
from pipeline.params import Params
from pipeline.recipe import VAL_NAME, PreparedData
from pipeline.tracking.hook import MlflowHook

Figures = dict[str, float | None]  # `segm/AP` -> percent


@dataclasses.dataclass(frozen=True)
class Job:
    """One training as plain values, so that it can be passed to any process on any machine.

    Attributes:
        config: the resolved config as YAML, its ``OUTPUT_DIR`` absolute.
        data: folder of the prepared data.
        eval_period: steps between evaluations during training; 0: none.
        params: for those evaluations.
        address: the MLflow run to log to, if any.
        data_hash: of the prepared data, the same on all machines; empty: unknown.
        elastic: whether the number of workers may change during training.
        stores: whether Ray keeps the checkpoints.
    """

    config: str
    data: Path
    eval_period: int = 0
    params: Params | None = None
    address: tracking.Address | None = None
    data_hash: str = ""
    elastic: bool = False
    stores: bool = False


def train_job(job: Job, hooks: Sequence[HookBase] = ()) -> None:
    """Run a training in this process, one of those that were started.

    Args:
        job: the same in every process.
        hooks: additional hooks.
    """
    data = PreparedData.load(job.data)
    code = training_code(measures=job.eval_period > 0)
    engine.check_same("the data or the code", {"data": data.hash, **code, **versions()})
    if job.data_hash not in ("", data.hash):
        raise UserError(
            f"{job.data} has the data {data.hash}, but the training is for "
            f"{job.data_hash}: prepare the same data on all machines"
        )
    data.register()
    cfg = load_cfg(job.config)
    own: list[HookBase] = [*hooks]
    if job.eval_period and job.params is not None:
        own.append(_evaluation_hook(cfg, job))
    if job.address is not None and comm.is_main_process():
        own.append(MlflowHook(job.address))
    engine.train(cfg, hooks=own, resume=True, load_weights=load_weights, elastic=job.elastic)


def load_cfg(text: str) -> CfgNode:
    """A config from the YAML of its ``dump``."""
    cfg = get_cfg()
    cfg.merge_from_other_cfg(CfgNode.load_cfg(text))
    return cfg


def load_weights(model: nn.Module, path: str) -> None:
    """Load weights from any known source into the model; print notes on what they left open."""
    from condinst.checkpoint import loading

    report = loading.load_weights(model, path)
    if comm.is_main_process():
        for note in report.notes:
            terminal(stderr=True).print(f"{path}: {note}", highlight=False)


def _evaluation_hook(cfg: CfgNode, job: Job) -> HookBase:
    assert job.params is not None
    annotations, wanted = job.data / "val" / "annotations.json", job.params.evaluate

    def figures(model: nn.Module) -> Figures:
        return figures_of(
            model,
            cfg,
            VAL_NAME,
            annotations,
            backend=wanted.backend,
            max_dets=wanted.max_detections,
        )

    return engine.EvaluationHook(job.eval_period, figures, patience=cfg.SOLVER.PATIENCE)


def figures_of(
    model: nn.Module,
    cfg: CfgNode,
    dataset: str,
    annotations: Path,
    *,
    backend: str = "auto",
    max_dets: int = 100,
) -> Figures:
    """A model's metrics on a registered dataset, during training."""
    from condinst.evaluation.coco import evaluate_coco
    from condinst.evaluation.prediction import predict_dataset

    detections = predict_dataset(model, dataset, cfg, progress=False)
    tasks = TASKS if cfg.MODEL.MASK_ON else ("bbox",)
    scores = evaluate_coco(annotations, detections, backend=backend, tasks=tasks, max_dets=max_dets)
    return {
        f"{task}/{name}": value
        for task, numbers in scores.metrics.items()
        for name, value in numbers.items()
    }
