"""A step that is left out, or made again, leaves no trace; what is not finite is not written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import Tensor, nn

from condinst.engine import NonFiniteStateError, TrainResult, train
from condinst.engine.buffers import Snapshot, listed, non_finite
from condinst.engine.optim import Precision
from tests.condinst.engine.toy import toy_mapper

MakeConfig = Callable[..., CfgNode]
SKIPS = ("SOLVER.MAX_SKIPPED_STEPS", 1, "SOLVER.EMA", 0.9)


def run(cfg: CfgNode, *hooks: HookBase, **kwargs: Any) -> TrainResult:
    return train(cfg, mapper=toy_mapper, hooks=hooks, log_period=4, **kwargs)


def state(trainer: Any) -> dict[str, Tensor]:
    """All that a step may move."""
    named = {**trainer.model.state_dict(), **dict(trainer.model.named_buffers())}
    average = trainer.ema.state if trainer.ema is not None else {}
    found = {**named, **{f"ema {name}": value for name, value in average.items()}}
    return {name: value.detach().clone() for name, value in found.items()}


class Compare(HookBase):
    """Which of the tensors each step has moved."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []

    def before_step(self) -> None:
        self.before = state(self.trainer)

    def after_step(self) -> None:
        after = state(self.trainer)
        moved = {name for name, value in after.items() if not torch.equal(value, self.before[name])}
        self.moved.append(moved)


class Forward(HookBase):
    """Changes the forward pass of one step."""

    def __init__(self, step: int, change: Callable[..., Any]) -> None:
        self.step, self.change = step, change

    def before_train(self) -> None:
        forward = self.trainer.model.forward

        def changed(batch: list[Any]) -> Any:
            return self.change(forward, batch) if self.trainer.iter == self.step else forward(batch)

        self.trainer.model.forward = changed


def infinite_pixels(forward: Callable[..., Any], batch: list[Any]) -> Any:
    images = [torch.full_like(one["image"], torch.inf) for one in batch]
    return forward([{**one, "image": x} for one, x in zip(batch, images, strict=True)])


def infinite_gradient(forward: Callable[..., Any], batch: list[Any]) -> Any:
    losses = forward(batch)
    zero = losses["loss_b"] * 0
    return {**losses, "loss_c": zero.sqrt()}  # 0, with the derivative of a root at 0


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("change", [infinite_pixels, infinite_gradient])
def test_left_out_step_leaves_no_trace(
    toy_cfg: MakeConfig, change: Callable[..., Any], parts: int
) -> None:
    compare = Compare()
    cfg = toy_cfg("a", *SKIPS, "SOLVER.ACCUMULATE", parts, "SOLVER.CLIP_GRADIENTS.ENABLED", False)
    result = run(cfg, Forward(6, change), compare)
    assert result.last["skipped_steps"] == 1
    assert [i for i, moved in enumerate(compare.moved) if not moved] == [6]
    assert {"norm.running_mean", "norm.num_batches_tracked", "mean", "ema conv.weight"} <= (
        compare.moved[5] & compare.moved[7]
    )
    for name in ("model.pth", "model_raw.pth"):
        weights = torch.load(result.output_dir / name, weights_only=True)["model"]
        assert not non_finite(weights.items())
        assert weights["norm.num_batches_tracked"] == 11 * parts


def test_left_out_step_of_the_loss_scaler(
    toy_cfg: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled by 2 ** 127 the first step's gradients are infinite, by 2 ** 16 no more."""

    def precision(_: CfgNode) -> Precision:
        made = Precision("cpu", None)
        made.scaler = torch.amp.GradScaler("cpu", 2.0**127, 2.0, 2.0**-111)
        return made

    plain, found, compare = Last(), Last(), Compare()
    monkeypatch.setattr(Precision, "from_config", precision)
    run(toy_cfg("a", "SOLVER.EMA", 0.9), compare, found)
    assert [i for i, moved in enumerate(compare.moved) if not moved] == [0]
    monkeypatch.undo()
    left_out = Forward(0, infinite_pixels)
    run(toy_cfg("b", *SKIPS), left_out, plain)
    for name, value in plain.state.items():
        torch.testing.assert_close(found.state[name], value, rtol=1e-4, atol=1e-6)


class Short(HookBase):
    """Memory for the backward pass of two images at a time; the forward pass has counted then."""

    def before_train(self) -> None:
        model = self.trainer.model
        forward = model.forward

        def limited(batch: list[Any]) -> Any:
            losses = forward(batch)
            return {k: _Backward.apply(x) for k, x in losses.items()} if len(batch) > 2 else losses

        model.forward = limited


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Any:
        raise torch.OutOfMemoryError(f"CUDA out of memory, {len(gradients)} gradients")


def test_halves_equal_halves_from_the_start(toy_cfg: MakeConfig) -> None:
    """To the bit: batch norms, moving mean, dropout and weights."""
    found, asked = Last(), Last()
    assert run(toy_cfg("a"), Short(), found).parts == 2
    run(toy_cfg("b", "SOLVER.ACCUMULATE", 2), asked)
    assert found.state.keys() == asked.state.keys() >= {"mean", "norm.running_var"}
    assert all(torch.equal(found.state[name], asked.state[name]) for name in asked.state)
    assert found.state["norm.num_batches_tracked"] == 24  # 12 steps of 2 parts


class Last(HookBase):
    """The state at the end."""

    def after_train(self) -> None:
        self.state = state(self.trainer)


def test_snapshot_by_hand() -> None:
    norm = nn.BatchNorm2d(1, momentum=0.5)
    snapshot = Snapshot(norm)
    norm(torch.full((1, 1, 2, 2), 4.0))
    assert norm.running_mean.item() == 2.0
    snapshot.restore()
    assert (norm.running_mean.item(), norm.num_batches_tracked.item()) == (0.0, 0)
    norm(torch.full((1, 1, 2, 2), 8.0))
    snapshot.take()
    norm(torch.full((1, 1, 2, 2), torch.nan))
    snapshot.restore()
    assert (norm.running_mean.item(), norm.num_batches_tracked.item()) == (4.0, 1)
    Snapshot(nn.ReLU()).restore()  # a model without buffers


class Spoil(HookBase):
    """Writes a value into a tensor after a step."""

    def __init__(self, step: int, find: Callable[[Any], Tensor], value: float) -> None:
        self.step, self.find, self.value = step, find, value

    def after_step(self) -> None:
        if self.trainer.iter == self.step:
            with torch.no_grad():
                tensor = self.find(self.trainer)
                tensor[(0,) * tensor.ndim] = self.value


def momentum(trainer: Any) -> Tensor:
    return trainer.optimizer.state[trainer.model.norm.bias]["momentum_buffer"]


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda t: t.model.norm.running_var, r"norm.running_var \(1 of 4\)"),
        (lambda t: t.model.mean, r"mean \(1 of 1\)"),
        (lambda t: t.ema.state["conv.weight"], r"EMA of conv.weight \(1 of 108\)"),
        (momentum, r"momentum_buffer of norm.bias \(1 of 4\)"),
    ],
)
@pytest.mark.parametrize(("step", "kept"), [(9, 1), (11, 2)])  # a checkpoint in time; the end
def test_what_is_not_finite_is_not_written(
    toy_cfg: MakeConfig, find: Callable[[Any], Tensor], message: str, step: int, kept: int
) -> None:
    cfg = toy_cfg("a", "SOLVER.EMA", 0.9)
    with pytest.raises(NonFiniteStateError, match=rf"after step {step + 1} .*finite: {message}"):
        run(cfg, Spoil(step, find, float("inf")))
    output = Path(cfg.OUTPUT_DIR)
    assert len(list((output / "checkpoints").glob("step_*"))) == kept
    assert not (output / "model.pth").exists()
    assert run(cfg, resume=True).steps == 12  # from the last sound checkpoint


def test_weights_to_start_from_are_finite(toy_cfg: MakeConfig) -> None:
    def load(model: nn.Module, _: str) -> None:
        model.norm.running_mean[1] = torch.nan

    with pytest.raises(NonFiniteStateError, match=r"old.pth: .* norm.running_mean \(1 of 4\)"):
        run(toy_cfg("a", "MODEL.WEIGHTS", "old.pth"), load_weights=load)


def test_long_lists_are_cut() -> None:
    rows = non_finite([(f"t{i}", torch.tensor([torch.nan, 1.0])) for i in range(10)])
    assert rows[0] == "t0 (1 of 2)"
    assert listed(rows).endswith("t7 (1 of 2) and 2 more")
    assert non_finite([("empty", torch.zeros(0)), ("whole", torch.tensor([1]))]) == []
