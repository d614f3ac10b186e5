"""What days of training need: parts, moving average, stops, skipped steps, dumps and replays."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from condinst.engine import EvaluationHook, NonFiniteLossError, TimeUpError, TrainResult, train
from condinst.engine.ema import Ema
from condinst.errors import UserError
from condinst.replay import load_dump, replay
from tests.condinst.engine.toy import Stop, ToyDetector, toy_mapper

MakeConfig = Callable[..., CfgNode]


def run(cfg: CfgNode, **kwargs: Any) -> TrainResult:
    return train(cfg, mapper=toy_mapper, log_period=4, **kwargs)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_moving_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    ema = Ema(model, 0.5)
    model.weight.data.fill_(1.0)
    ema.update(model)  # (1 + 0) / (10 + 0) is less than 0.5
    assert ema.state["weight"].item() == pytest.approx(0.9)
    with ema.applied(model):
        assert model.weight.item() == pytest.approx(0.9)
    assert model.weight.item() == 1.0


def test_moving_average_is_evaluated_stored_and_resumed(toy_cfg: MakeConfig) -> None:
    seen: list[torch.Tensor] = []

    def evaluate(model: nn.Module) -> dict[str, float | None]:
        seen.append(model.state_dict()["conv.weight"].clone())
        return {"segm/AP": 1.0}

    keys = ("SOLVER.EMA", 0.9)
    whole = run(toy_cfg("whole", *keys), hooks=[EvaluationHook(6, evaluate)])
    plain = run(toy_cfg("plain"), hooks=[EvaluationHook(6, evaluate)])
    average, raw = weights(whole.weights), weights(whole.output_dir / "model_raw.pth")
    assert same(raw, weights(plain.weights))  # the average looks on
    assert not same(average, raw)
    assert torch.equal(seen[0], weights(whole.output_dir / "model_best.pth")["conv.weight"])
    assert not torch.equal(seen[0], seen[1])
    with pytest.raises(KeyboardInterrupt):
        run(toy_cfg("cut", *keys), hooks=[Stop(7)])
    assert same(weights(run(toy_cfg("cut", *keys), resume=True).weights), average)


def test_early_stop_and_its_resumption(toy_cfg: MakeConfig) -> None:
    def hook() -> EvaluationHook:
        figures = {2: 1.0, 4: 3.0}
        return EvaluationHook(2, lambda _: {"segm/AP": figures.get(done[-1], 2.0)}, patience=2)

    class Count(HookBase):
        def after_step(self) -> None:
            done.append(self.trainer.iter + 1)

    done: list[int] = []
    result = run(toy_cfg("a"), hooks=[Count(), hook()])
    assert result.steps == 8
    assert "no better segm/AP in 2 evaluations" in result.stopped
    assert result.best == {"iteration": 4, "value": 3.0}
    with pytest.raises(KeyboardInterrupt):
        run(toy_cfg("b"), hooks=[Count(), hook(), Stop(7)])
    again = run(toy_cfg("b"), hooks=[Count(), hook()], resume=True)
    assert (again.steps, again.start_step) == (8, 5)
    assert same(weights(again.weights), weights(result.weights))
    assert run(toy_cfg("b"), resume=True).start_step == 8  # finished


def test_time_is_up(toy_cfg: MakeConfig) -> None:
    with pytest.raises(TimeUpError, match=r"after step 1 of 12.*same command resumes"):
        run(toy_cfg("cut", "SOLVER.MAX_SECONDS", 1e-6))
    assert not (Path(toy_cfg("cut").OUTPUT_DIR) / "model.pth").exists()
    resumed = run(toy_cfg("cut", "SOLVER.MAX_SECONDS", 60.0), resume=True)
    assert resumed.start_step == 1
    assert same(weights(resumed.weights), weights(run(toy_cfg("whole")).weights))


def test_last_checkpoints_are_kept(toy_cfg: MakeConfig) -> None:
    keys = ("SOLVER.KEEP_CHECKPOINTS", 3, "SOLVER.CHECKPOINT_PERIOD", 2)
    folder = run(toy_cfg("a", *keys)).output_dir / "checkpoints"
    assert sorted(int(path.stem[5:]) for path in folder.iterdir()) == [8, 10, 12]


def test_non_finite_step_is_left_out(toy_cfg: MakeConfig, caplog: pytest.LogCaptureFixture) -> None:
    result = run(toy_cfg("a", "TOY_FAIL_AT", 7, "SOLVER.MAX_SKIPPED_STEPS", 1))
    assert "step 6 is not finite: the step is skipped (1 of at most 1)" in caplog.text
    assert result.last["skipped_steps"] == 1
    assert result.steps == 12
    with pytest.raises(NonFiniteLossError, match="at step 6"):
        run(toy_cfg("b", "TOY_FAIL_AT", 7))


def test_replay_repeats_the_step(toy_cfg: MakeConfig) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        run(toy_cfg("r", "TOY_FAIL_AT", 7))
    assert caught.value.dump is not None
    dump = load_dump(caught.value.dump)
    cfg = toy_cfg("r", "TOY_FAIL_AT", 1)  # the model's first forward is its seventh
    found = replay(dump, cfg, build=ToyDetector)
    assert found.step == 6
    assert found.bad_gradients
    assert str(found.losses["loss_a"]) == str(found.recorded["loss_a"]) == "nan"
    # dropout and batch are those of the step, so the other term is the same to the bit
    assert found.losses["loss_b"] == found.recorded["loss_b"]
    sound = replay(dump, toy_cfg("r"), build=ToyDetector)
    assert not sound.bad_gradients
    with pytest.raises(UserError, match="does not exist"):
        load_dump(Path("none.pth"))
    with pytest.raises(UserError, match="not a dump of a training"):
        load_dump(next((Path(cfg.OUTPUT_DIR) / "checkpoints").glob("*")))


class Hungry(HookBase):
    """Memory for two images at a time."""

    def before_train(self) -> None:
        model = self.trainer.model
        forward = model.forward

        def limited(batch: list[Any]) -> Any:
            if len(batch) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return forward(batch)

        model.forward = limited


def test_out_of_memory_halves_the_images_at_once(
    toy_cfg: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(toy_cfg("a"), hooks=[Hungry()])
    assert "each worker's 4 images per step are now split into 2 micro-batches" in caplog.text
    assert (result.parts, result.steps) == (2, 12)
    asked = run(toy_cfg("b", "SOLVER.ACCUMULATE", 2))
    assert asked.last["total_loss"] == pytest.approx(result.last["total_loss"], rel=0.2)
    parts = json.loads((result.output_dir / "parts.json").read_text())
    assert parts == {"parts": 2}  # kept over a restart


def test_one_image_that_does_not_fit(toy_cfg: MakeConfig) -> None:
    class Starving(Hungry):
        def before_train(self) -> None:
            def none(batch: list[Any]) -> Any:
                raise torch.OutOfMemoryError("CUDA out of memory")

            self.trainer.model.forward = none

    with pytest.raises(UserError, match="one image at a time does not fit"):
        run(toy_cfg("a"), hooks=[Starving()])


def test_overfit_takes_the_same_images(toy_cfg: MakeConfig) -> None:
    seen: set[int] = set()

    def mapper(record: dict[str, Any]) -> dict[str, Any]:
        seen.add(record["image_id"])
        return toy_mapper(record)

    train(toy_cfg("a", "DEBUG.OVERFIT", 2), mapper=mapper)
    assert seen == {0, 1}


def test_profile_opens_in_a_browser(toy_cfg: MakeConfig) -> None:
    folder = run(toy_cfg("a", "DEBUG.PROFILE", True)).output_dir
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert any("conv" in event.get("name", "") for event in itertools.islice(events, 5000))
    assert "Self CPU" in (folder / "profile.txt").read_text()


def test_anomaly_names_the_operation(toy_cfg: MakeConfig) -> None:
    class Poison(HookBase):
        def before_train(self) -> None:
            forward = self.trainer.model.forward

            def bad(batch: list[Any]) -> Any:
                losses = forward(batch)
                zero = losses["loss_b"] * 0
                return {**losses, "loss_c": torch.sqrt(zero) * 0 + zero}  # finite, gradient NaN

            self.trainer.model.forward = bad

    with pytest.raises(RuntimeError, match="SqrtBackward0"):
        run(toy_cfg("a", "DEBUG.DETECT_ANOMALY", True), hooks=[Poison()])
