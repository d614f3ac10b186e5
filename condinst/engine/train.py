"""From a config to trained weights."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from torch import nn

from condinst.atomic import write_json
from condinst.config import memory_format
from condinst.engine.agreement import check_origin, check_same, deciding_keys, from_first
from condinst.engine.batches import build_train_loader, seed_everything
from condinst.engine.buffers import check_weights
from condinst.engine.evaluating import EvaluationHook
from condinst.engine.hooks import (
    PROGRESS,
    CheckpointHook,
    ConsoleProgress,
    CurveWriter,
    ProgressFile,
)
from condinst.engine.limits import TIME_UP, TimeLimit, TimeUpError
from condinst.engine.memory import recompute_backbone, synchronise_batch_norms
from condinst.engine.optim import Precision, build_clipper, build_optimizer
from condinst.engine.profiling import ProfileHook
from condinst.engine.state import Checkpoints, save_atomically, unwrap
from condinst.engine.trainer import Row, Trainer
from condinst.errors import UserError
from condinst.layers.memory_format import to_channels_last
from condinst.layers.threads import limited


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a finished training left.

    Attributes:
        output_dir: the run's folder, with ``curve.csv``.
        weights: ``model.pth``, {"model": state dict, "meta": plain values}.
        steps: steps done in all.
        start_step: where this call resumed the run; equal to ``steps`` if it was already finished.
        seed: the seed that was used.
        seconds: spent in training steps, over all sessions.
        last: the last row of the curve.
        best: {"iteration", "value"} of the best evaluation during training, or empty.
        parts: micro-batches per step at the end.
        stopped: why it stopped before ``SOLVER.MAX_ITER``, or empty.
    """

    output_dir: Path
    weights: Path
    steps: int
    start_step: int
    seed: int
    seconds: float
    last: Row
    best: Row
    parts: int = 1
    stopped: str = ""

    @classmethod
    def load(cls, output_dir: Path) -> TrainResult | None:
        """The result of a finished training in that folder, or None."""
        path = Path(output_dir) / "result.json"
        if not path.exists():
            return None
        values = json.loads(path.read_text())
        return cls(output_dir=Path(output_dir), weights=Path(output_dir) / "model.pth", **values)

    def save(self) -> None:
        """Write ``result.json``, which marks a finished training."""
        values = dataclasses.asdict(self)
        del values["output_dir"], values["weights"]
        write_json(self.output_dir / "result.json", values)


def train(
    cfg: CfgNode,
    *,
    hooks: Sequence[HookBase] = (),
    resume: bool = False,
    mapper: Callable[[dict], dict | None] | None = None,
    load_weights: Callable[[nn.Module, str], object] | None = None,
    log_period: int = 20,
    elastic: bool = False,
) -> TrainResult:
    """Train by a config and leave weights, curve and checkpoints in ``OUTPUT_DIR``.

    With several processes (see :func:`condinst.engine.launch`) every process calls this with the
    same config; the first one writes. On a CPU, the same config gives bitwise the same weights,
    interrupted or not; on a GPU with ``SOLVER.DETERMINISTIC``.

    Args:
        cfg: the whole config; the datasets in ``DATASETS.TRAIN`` are registered.
        hooks: detectron2 hooks; a :class:`~condinst.engine.trainer.RowHook` also gets the rows.
        resume: continue from the last checkpoint in ``OUTPUT_DIR``, if there is one.
        mapper: dataset dict -> model input; CondInst's own by default.
        load_weights: loads ``MODEL.WEIGHTS`` into the model; detectron2's loader by default.
        log_period: steps between rows of figures.
        elastic: also resume from a checkpoint of a different number of workers.

    Raises:
        TimeUpError: ``SOLVER.MAX_SECONDS`` have passed; the state is saved.
        NonFiniteLossError: a loss or gradient became infinite or NaN.
        NonFiniteStateError: weights, buffers or the optimiser's state did.
        UserError: the config is invalid.
    """
    output = Path(cfg.OUTPUT_DIR)
    checkpoints = Checkpoints(output / "checkpoints", cfg.SOLVER.KEEP_CHECKPOINTS)
    check_same("the config", deciding_keys(cfg))
    finished, state = from_first(lambda: _former(cfg, checkpoints, resume, elastic))
    if finished is not None:
        return dataclasses.replace(finished, start_step=finished.steps)
    seed = _seed(cfg, state)
    start = state["iteration"] if state else 0
    with _deterministic(cfg), limited(cfg.SOLVER.NUM_THREADS):
        trainer = _build_trainer(
            cfg, seed, start, mapper, load_weights if not state else _keep, log_period
        )
        trainer.register_hooks([*hooks, *_own_hooks(cfg, checkpoints)])
        if state:
            meters = state["meters"]
            if len(meters) == comm.get_world_size():
                state["meter"] = meters[comm.get_rank()]
            trainer.restore(state)
            del state
        comm.synchronize()
        trainer.train(start, cfg.SOLVER.MAX_ITER)
        trainer.check_finite(trainer.iter)
    if trainer.stopping == TIME_UP:
        raise TimeUpError(
            f"the time limit of {cfg.SOLVER.MAX_SECONDS:g} s was reached after step "
            f"{trainer.iter} of {cfg.SOLVER.MAX_ITER}; the state is saved in "
            f"{checkpoints.folder}, and the same command resumes from there"
        )
    result = TrainResult(
        output_dir=output,
        weights=output / "model.pth",
        steps=trainer.iter,
        start_step=start,
        seed=seed,
        seconds=round(trainer.seconds, 3),
        last=trainer.last_row,
        best=next((hook.best for hook in hooks if isinstance(hook, EvaluationHook)), {}),
        parts=trainer.parts.value,
        stopped=trainer.stopping,
    )
    if comm.is_main_process():
        _save_result(cfg, trainer, result)
    comm.synchronize()
    return result


def _save_result(cfg: CfgNode, trainer: Trainer, result: TrainResult) -> None:
    """Save the weights or their moving average, then mark the run finished."""
    meta = {
        "iteration": result.steps,
        "seed": result.seed,
        "classes": _classes(cfg),
        "config": cfg.dump(),
    }
    model = unwrap(trainer.model).state_dict()
    if trainer.ema is not None:
        save_atomically({"model": model, "meta": meta}, result.output_dir / "model_raw.pth")
        model, meta = trainer.ema.state, {**meta, "ema": cfg.SOLVER.EMA}
    save_atomically({"model": model, "meta": meta}, result.weights)
    result.save()


def _former(
    cfg: CfgNode, checkpoints: Checkpoints, resume: bool, elastic: bool
) -> tuple[TrainResult | None, dict[str, Any] | None]:
    """The result if the training is finished, else the state to resume from."""
    output = Path(cfg.OUTPUT_DIR)
    finished = TrainResult.load(output) if resume else None
    begun = finished is not None or bool(checkpoints.paths())
    if begun and not resume:
        raise UserError(
            f"{checkpoints.folder} has checkpoints of an earlier training; add --resume to "
            "continue it, or choose another OUTPUT_DIR"
        )
    check_origin(output, cfg, begun=begun, elastic=elastic)
    if finished is not None:
        return finished, None
    return None, checkpoints.load_last()


def _keep(model: nn.Module, path: str) -> None:
    """Load nothing: a checkpoint's weights follow."""


def _seed(cfg: CfgNode, state: dict[str, Any] | None) -> int:
    """``SEED``; if negative, a random one that all processes and later sessions share."""
    if cfg.SEED >= 0:
        return cfg.SEED
    if state:
        return state["seed"]
    return comm.all_gather(int.from_bytes(os.urandom(4)))[0]


@contextlib.contextmanager
def _deterministic(cfg: CfgNode):  # noqa: ANN202  # a generator that gives nothing
    """On a CPU, and on request elsewhere, use only bitwise deterministic operations."""
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    if torch.device(cfg.MODEL.DEVICE).type == "cpu" or cfg.SOLVER.DETERMINISTIC:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        with torch.autograd.set_detect_anomaly(cfg.DEBUG.DETECT_ANOMALY):
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def _build_trainer(
    cfg: CfgNode,
    seed: int,
    start: int,
    mapper: Callable[[dict], dict | None] | None,
    load_weights: Callable[[nn.Module, str], object] | None,
    log_period: int,
) -> Trainer:
    if mapper is None:
        from condinst.data.mapper import CondInstDatasetMapper

        mapper = CondInstDatasetMapper(cfg, is_train=True)
    loader = build_train_loader(cfg, mapper, seed=seed, start_step=start)
    precision = Precision.from_config(cfg)
    clipper = build_clipper(cfg)
    seed_everything(seed)
    model = build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        (load_weights or _load_by_detectron2)(model, cfg.MODEL.WEIGHTS)
        check_weights(model, cfg.MODEL.WEIGHTS)
    if cfg.SOLVER.SYNC_BN:
        synchronise_batch_norms(model)
    if cfg.SOLVER.RECOMPUTE_BACKBONE:
        recompute_backbone(model)
    if memory_format(cfg) == "channels_last":
        to_channels_last(model)
    optimizer = build_optimizer(cfg, model)
    return Trainer(
        distribute(model, cfg),
        loader,
        optimizer,
        build_lr_scheduler(cfg, optimizer),
        precision=precision,
        clipper=clipper,
        cfg=cfg,
        seed=seed,
        log_period=log_period,
    )


def _load_by_detectron2(model: nn.Module, path: str) -> None:
    DetectionCheckpointer(model).load(path)


def distribute(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """The model wrapped for several processes; with one, the model itself."""
    if comm.get_world_size() == 1:
        return model
    on_gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    return nn.parallel.DistributedDataParallel(
        model,
        device_ids=[torch.cuda.current_device()] if on_gpu else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
    )


def _own_hooks(cfg: CfgNode, checkpoints: Checkpoints) -> list[HookBase]:
    """Hooks in order: those that stop come before the one that saves, which saves their state."""
    shared = [TimeLimit(cfg.SOLVER.MAX_SECONDS)] if cfg.SOLVER.MAX_SECONDS else []
    period = cfg.SOLVER.CHECKPOINT_PERIOD
    if not comm.is_main_process():
        return [*shared, CheckpointHook(checkpoints, period)]
    return [
        *shared,
        *([ProfileHook()] if cfg.DEBUG.PROFILE else []),
        ConsoleProgress(),
        ProgressFile(Path(cfg.OUTPUT_DIR) / PROGRESS),
        CurveWriter(Path(cfg.OUTPUT_DIR) / "curve.csv", period),
        CheckpointHook(checkpoints, period),
    ]


def _classes(cfg: CfgNode) -> list[str]:
    return [
        str(name) for name in MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", [])
    ]
