"""The training step and its loop; everything optional is a hook."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.utils.data import DataLoader

from condinst.engine.batches import next_batch, seed_everything
from condinst.engine.buffers import Snapshot, check_finite, load_buffers, unsaved_buffers
from condinst.engine.ema import Ema
from condinst.engine.failure import NonFiniteLossError, describe, dump_state
from condinst.engine.meter import Meter, Row, memory_mb
from condinst.engine.micro_batches import (
    Batch,
    MicroBatch,
    MicroBatchCount,
    is_out_of_memory,
    local_gradients,
    split,
)
from condinst.engine.optim import Clipper, Precision
from condinst.engine.state import unwrap

_LOGGER = logging.getLogger(__name__)
MODEL_STREAM = 1 << 20  # apart from the positions in a step, which seed the augmentations


class RowHook(HookBase):
    """A hook that also gets every row of figures; ``iteration`` counts the finished steps."""

    def on_row(self, row: Row) -> None:
        """Handle a row: losses and speed every few steps, or ``eval/...`` after an evaluation."""
        raise NotImplementedError


class Trainer(TrainerBase):
    """detectron2's loop around a step that can be repeated bit for bit.

    The random state of a step follows from (seed, step, rank), so neither hooks nor a restart
    change it.

    Args:
        model: returns a dict of losses for a list of model inputs.
        loader: yields batches, starting with the first step to run.
        optimizer: of the model's parameters.
        scheduler: stepped after every step.
        precision: autocast and loss scaling.
        clipper: limits the gradients, or None.
        cfg: kept for dumps; reads ``OUTPUT_DIR`` and ``SOLVER``'s IMS_PER_BATCH, ACCUMULATE, EMA
            and MAX_SKIPPED_STEPS.
        seed: of the model's own random numbers.
        log_period: steps over which a row's figures are averaged.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: DataLoader,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        *,
        precision: Precision,
        clipper: Clipper | None,
        cfg: CfgNode,
        seed: int,
        log_period: int = 20,
    ) -> None:
        super().__init__()
        self.model = model
        self.data_loader = loader
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.precision = precision
        self.clipper = clipper
        self.cfg = cfg
        self.seed = seed
        self.log_period = log_period
        self.output_dir = Path(cfg.OUTPUT_DIR)
        self.seconds = 0.0
        self.last_row: Row = {}
        self.stopping = ""
        self.skipped = 0
        self.ema = Ema(unwrap(model), cfg.SOLVER.EMA) if cfg.SOLVER.EMA else None
        self.parts = MicroBatchCount(
            self.output_dir,
            cfg.SOLVER.ACCUMULATE,
            cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        )
        self._meter = Meter()
        self._before = Snapshot(unwrap(model))
        self._batches: Iterator[Batch] | None = None
        self._parameters = [param for group in optimizer.param_groups for param in group["params"]]

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run steps ``start_iter`` to ``max_iter - 1``, or until a hook sets ``stopping``."""
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self.model.train()
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                self._meter.restart_clock()
                for self.iter in range(start_iter, max_iter):
                    began = time.perf_counter()
                    self.before_step()
                    self.run_step()
                    self.seconds += time.perf_counter() - began
                    self.after_step()
                    if self.stopping:
                        break
                self.iter += start_iter < max_iter
            finally:
                self.after_train()
                self._batches = None

    def run_step(self) -> None:
        """Forward, check, backward, clip, update; in smaller micro-batches if memory runs out."""
        began = time.perf_counter()
        if self._batches is None:
            self._batches = iter(self.data_loader)
        batch = next_batch(self._batches)
        waited = time.perf_counter() - began
        self._before.take()
        while True:
            try:
                values = self._gradients(batch)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._before.restore()
                self.parts.double(error)
        lr = float(self.scheduler.get_last_lr()[0])
        if values is not None and not self.precision.step(self.optimizer):
            self._before.restore()  # the scaler is still adjusting its scale: the step is skipped
        elif values is not None:
            if self.ema is not None:
                self.ema.update(unwrap(self.model))
            self._meter.add({**values, "data_time": waited})
        self.scheduler.step()
        if (self.iter + 1) % self.log_period == 0 or self.iter + 1 == self.max_iter:
            self._report(lr)

    def _gradients(self, batch: Batch) -> Row | None:
        """The step's losses, with gradients set; None if not finite and the step is skipped."""
        seed_everything(self.seed, self.iter, MODEL_STREAM + comm.get_rank())
        self.optimizer.zero_grad(set_to_none=True)
        values: Row = {}
        finite = True
        for part in split(self.model, batch, self.parts.value):
            with local_gradients(self.model, not part.last):
                total, terms = self._forward(part)
                for name, value in terms.items():
                    values[name] = values.get(name, 0.0) + value
                finite = finite and _finite(terms["total_loss"])
                if part.last:  # the workers' gradients are combined here: all continue, or none
                    finite = _all(finite)
                if finite:
                    self.precision.backward(total)
        if not finite:
            return self._skip("The loss", values, batch)
        self.after_backward()
        norm, scaled = self._clip(), self.precision.scaler is not None
        if not scaled and not _finite(self._norm() if norm is None else norm):
            return self._skip("The gradient", values, batch)
        return values if norm is None else {**values, "grad_norm": norm}

    def _forward(self, part: MicroBatch) -> tuple[Tensor, Row]:
        """A micro-batch's loss for the backward pass, and its terms as numbers."""
        with self.precision.autocast(), part.context():
            losses = self.model(part.batch)
            total = sum(losses.values())
        assert isinstance(total, Tensor), "the model returned no loss"
        terms = torch.stack([term.detach().float() for term in losses.values()]).tolist()
        values = dict(zip(losses, terms, strict=True))
        values = {"total_loss": sum(values.values()), **values}
        if part.weight == 1:
            return total, values
        return total * part.weight, {name: x * part.weight for name, x in values.items()}

    def _skip(self, what: str, values: Row, batch: Batch) -> None:
        """Skip a step whose loss or gradient is not finite; too many of them end the run.

        Buffers are restored, so that the step leaves no trace and a dump can repeat it.
        """
        self._before.restore()
        limit = self.cfg.SOLVER.MAX_SKIPPED_STEPS
        if self.skipped >= limit:
            raise self._failure(what, values, batch)
        self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        text = "%s of step %d is not finite: the step is skipped (%d of at most %d)"
        _LOGGER.warning(text, what, self.iter, self.skipped, limit)

    def _clip(self) -> float | None:
        if self.clipper is None:
            return None
        self.precision.unscale(self.optimizer)
        norm = self.clipper(self._parameters)
        return None if norm is None else norm.item()

    def _norm(self) -> float:
        gradients = [param.grad for param in self._parameters if param.grad is not None]
        return nn.utils.get_total_norm(gradients).item()

    def _report(self, lr: float) -> None:
        rows = comm.gather(self._meter.averages(self.cfg.SOLVER.IMS_PER_BATCH))
        self._meter = Meter()
        if not rows:  # every process but the first
            return
        row = {key: sum(one[key] for one in rows) / len(rows) for key in rows[0]}
        extra: Row = {"memory_mb": memory_mb()}
        if self.skipped:
            extra["skipped_steps"] = self.skipped
        self.emit({"iteration": self.iter + 1, **row, "lr": lr, **extra})

    def emit(self, row: Row) -> None:
        """Pass a row to detectron2's event storage and to every :class:`RowHook`."""
        if "total_loss" in row:
            self.last_row = row
        for key, value in row.items():
            if key != "iteration":
                self.storage.put_scalar(key, value, smoothing_hint=False)
        for hook in self._hooks:
            if isinstance(hook, RowHook):
                hook.on_row(row)

    def _failure(self, what: str, losses: Row, batch: Batch) -> NonFiniteLossError:
        """Dump the state of the worker where it happened; the message is the same in all."""
        dump, text = None, ""
        if not _finite(sum(losses.values())) or what != "The loss":
            path = self.output_dir / f"nonfinite/step_{self.iter:07d}_rank{comm.get_rank()}.pth"
            state = {"rank": comm.get_rank(), "losses": losses, "batch": batch}
            state |= {"parts": self.parts.value, "world_size": comm.get_world_size()}
            dump = dump_state(path, {**state, **self.state(), "config": self.cfg.dump()})
            lr = float(self.scheduler.get_last_lr()[0])
            text = describe(self.iter, what, losses, lr, dump)
        text = next((one for one in comm.all_gather(text) if one), text)
        return NonFiniteLossError(text, dump)

    def check_finite(self, steps_done: int) -> None:
        """Refuse to resume from or write a non-finite state; all workers call it together.

        Raises:
            NonFiniteStateError: weights, buffers, moving average or optimiser are not finite.
        """
        kept = self.output_dir / "checkpoints"
        check_finite(self.model, self.ema, self.optimizer, steps_done, kept)

    def state(self, steps_done: int | None = None) -> dict[str, Any]:
        """All that a restart needs, as plain values and tensors."""
        return {
            **self.state_dict(),
            "iteration": self.iter if steps_done is None else steps_done,
            "seed": self.seed,
            "model": unwrap(self.model).state_dict(),
            "unsaved_buffers": unsaved_buffers(unwrap(self.model)),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.precision.state_dict(),
            "meter": self._meter.state(),
            "seconds": self.seconds,
            "last_row": self.last_row,
            "skipped": self.skipped,
            "ema": self.ema.state_dict() if self.ema else {},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned; hooks must already be registered."""
        model = unwrap(self.model)
        model.load_state_dict(state["model"])
        load_buffers(model, state["unsaved_buffers"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.precision.load_state_dict(state["precision"])
        self.load_state_dict(state)
        self._meter = Meter(state["meter"])
        self.seconds = state["seconds"]
        self.last_row = state["last_row"]
        self.skipped = state["skipped"]
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])


def _finite(value: float) -> bool:
    return value - value == 0.0


def _all(finite: bool) -> bool:
    """Whether it is finite in every worker."""
    if comm.get_world_size() == 1:
        return finite
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor(float(finite), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
    return bool(flag.item())
