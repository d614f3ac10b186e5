"""Evaluation during training: keeps the best weights, and may end a training that has stalled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from condinst.engine.state import save_atomically, unwrap
from condinst.engine.trainer import Row, Trainer


class EvaluationHook(HookBase):
    """Evaluates during training and keeps the best weights in ``model_best.pth``.

    Only the first process evaluates; the others wait. The last step is not evaluated here, since
    the finished run is. If there is a moving average of the weights, it is evaluated instead.

    Args:
        period: in steps.
        evaluate: model in evaluation mode -> figures by name, such as ``segm/AP``; an undefined
            figure is None.
        metric: the figure that says which weights are best.
        patience: stop after this many evaluations without a better figure; 0: never.
    """

    trainer: Trainer

    def __init__(
        self,
        period: int,
        evaluate: Callable[[nn.Module], Mapping[str, float | None]],
        metric: str = "segm/AP",
        patience: int = 0,
    ) -> None:
        assert period > 0, period
        self.period = period
        self.evaluate = evaluate
        self.metric = metric
        self.patience = patience
        self.best: Row = {}
        self.waited = 0

    def after_step(self) -> None:
        """Evaluate when due.

        Raises:
            NonFiniteStateError: the weights are not finite.
        """
        done = self.trainer.iter + 1
        if done % self.period or done == self.trainer.max_iter:
            return
        self.trainer.check_finite(done)
        if comm.is_main_process():
            model, ema = unwrap(self.trainer.model), self.trainer.ema
            with contextlib.nullcontext() if ema is None else ema.applied(model):
                figures = self._figures(model)
                self._keep(done, {key: float(x) for key, x in figures.items() if x is not None})
        comm.synchronize()
        self.waited = comm.all_gather(self.waited)[0]
        if self.patience and self.waited >= self.patience:
            self.trainer.stopping = (
                f"early: no better {self.metric} in {self.waited} evaluations, up to step {done}"
            )

    def _figures(self, model: nn.Module) -> Mapping[str, float | None]:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            return self.evaluate(model)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _keep(self, done: int, figures: Row) -> None:
        self.trainer.emit({"iteration": done, **{f"eval/{k}": v for k, v in figures.items()}})
        value = figures.get(self.metric)
        self.waited += 1
        if value is not None and value > self.best.get("value", float("-inf")):
            self.waited = 0
            self.best = {"iteration": done, "value": value}
            meta = {"iteration": done, "metric": self.metric, "value": value}
            state = {"model": unwrap(self.trainer.model).state_dict(), "meta": meta}
            save_atomically(state, self.trainer.output_dir / "model_best.pth")

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.best = state["best"]
        self.waited = state["waited"]
