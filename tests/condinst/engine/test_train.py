"""A whole training: its files, its repeatability, its failures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from condinst.engine import ConsoleProgress, EvaluationHook, NonFiniteLossError, TrainResult, train
from condinst.errors import UserError
from tests.condinst.engine.toy import Stop, toy_mapper

MakeConfig = Callable[..., CfgNode]


def run(cfg: CfgNode, **kwargs: Any) -> TrainResult:
    return train(cfg, mapper=toy_mapper, log_period=4, **kwargs)


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return torch.load(result.weights, weights_only=True)["model"]


def rows(result: TrainResult) -> list[dict[str, str]]:
    with (result.output_dir / "curve.csv").open(newline="") as file:
        timed = ("images_per_s", "data_time", "memory_mb")
        return [{k: v for k, v in row.items() if k not in timed} for row in csv.DictReader(file)]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_leaves_weights_curve_and_mark(toy_cfg: MakeConfig) -> None:
    result = run(toy_cfg())
    assert result == TrainResult.load(result.output_dir)
    assert result.steps == 12
    assert result.start_step == 0
    assert result.seed == 3
    table = rows(result)
    assert [row["iteration"] for row in table] == ["4", "8", "12"]
    assert float(table[0]["loss_a"]) + float(table[0]["loss_b"]) == pytest.approx(
        float(table[0]["total_loss"]), rel=1e-4
    )
    # warmed up, then dropped to a tenth at step 8
    assert [float(row["lr"]) for row in table] == pytest.approx([0.01, 0.01, 0.001])
    told = json.loads((result.output_dir / "progress.json").read_text())
    assert (told["iteration"], told["max_iter"], told["seconds_left"]) == (12, 12, 0)
    assert told["total_loss"] == pytest.approx(float(table[2]["total_loss"]), rel=1e-4)


def test_finished_run_is_not_repeated(toy_cfg: MakeConfig) -> None:
    first = run(toy_cfg())
    stamp = first.weights.stat().st_mtime_ns
    again = run(toy_cfg(), resume=True)
    assert again.start_step == 12
    assert first.weights.stat().st_mtime_ns == stamp


def test_earlier_checkpoints_are_not_overwritten_unasked(toy_cfg: MakeConfig) -> None:
    run(toy_cfg())
    with pytest.raises(UserError, match="--resume"):
        run(toy_cfg())


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("stop", [3, 5, 7, 11])
def test_resumed_equals_uninterrupted(toy_cfg: MakeConfig, stop: int, optimizer: str) -> None:
    key = ("SOLVER.OPTIMIZER", optimizer)
    whole = run(toy_cfg("whole", *key))
    with pytest.raises(KeyboardInterrupt):
        run(toy_cfg("cut", *key), hooks=[Stop(stop)], resume=True)
    resumed = run(toy_cfg("cut", *key), resume=True)
    assert resumed.start_step == stop // 5 * 5
    assert_same(weights(whole), weights(resumed))
    assert rows(whole) == rows(resumed)


def test_damaged_checkpoint_falls_back(
    toy_cfg: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(toy_cfg("whole"))
    with pytest.raises(KeyboardInterrupt):
        run(toy_cfg("cut"), hooks=[Stop(11)])
    newest = Path(toy_cfg("cut").OUTPUT_DIR) / "checkpoints/step_0000010.pth"
    newest.write_bytes(newest.read_bytes()[:500])
    resumed = run(toy_cfg("cut"), resume=True)
    assert resumed.start_step == 5
    assert "damaged" in caplog.text
    assert_same(weights(whole), weights(resumed))


def test_full_disk_leaves_the_last_good_checkpoint(
    toy_cfg: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = torch.save, []

    def save(state: Any, file: Any) -> None:
        written.append(file)
        if len(written) > 1:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        real(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(UserError, match="is the disk full"):
            run(toy_cfg("cut"))
    folder = Path(toy_cfg("cut").OUTPUT_DIR) / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step_0000005.pth"]
    assert_same(weights(run(toy_cfg("cut"), resume=True)), weights(run(toy_cfg("whole"))))


def test_seed_matters(toy_cfg: MakeConfig) -> None:
    a, b = weights(run(toy_cfg("a"))), weights(run(toy_cfg("b", "SEED", 4)))
    assert not torch.equal(a["conv.weight"], b["conv.weight"])


def test_random_seed_is_kept_over_a_restart(toy_cfg: MakeConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(toy_cfg("r", "SEED", -1), hooks=[Stop(7)])
    resumed = run(toy_cfg("r", "SEED", -1), resume=True)
    again = run(toy_cfg("s", "SEED", resumed.seed))
    assert_same(weights(resumed), weights(again))


def test_non_finite_loss_leaves_the_evidence(toy_cfg: MakeConfig) -> None:
    with pytest.raises(NonFiniteLossError, match="at step 6") as caught:
        run(toy_cfg("r", "TOY_FAIL_AT", 7))
    for remedy in ("train.lr", "warmup_steps", "clip_gradients", "GN"):
        assert remedy in str(caught.value)
    dump = torch.load(caught.value.dump, weights_only=True)
    assert dump["iteration"] == 6
    assert len(dump["batch"]) == 4
    assert dump["batch"][0]["instances"]["fields"]["gt_masks"].shape == (1, 8, 8)
    assert str(caught.value.dump) in str(caught.value)
    assert_same(dump["model"], dump["model"])
    assert {"optimizer", "scheduler", "config", "seed"} <= dump.keys()


@pytest.mark.parametrize("kind", ["full_model", "norm", "value"])
def test_clipping(toy_cfg: MakeConfig, kind: str) -> None:
    small = 1e-9
    keys = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind)
    keys += ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", small, "SOLVER.WEIGHT_DECAY", 0.0)
    cut, none = (
        run(toy_cfg("a", *keys, "SOLVER.MAX_ITER", 2)),
        run(toy_cfg("b", "SOLVER.MAX_ITER", 1)),
    )
    assert torch.allclose(weights(cut)["norm.weight"], torch.ones(4), atol=1e-9)
    assert not torch.allclose(weights(none)["norm.weight"], torch.ones(4), atol=1e-9)
    assert ("grad_norm" in cut.last) == (kind == "full_model")


def test_bfloat16_on_cpu_and_no_float16(toy_cfg: MakeConfig) -> None:
    result = run(toy_cfg("a", "SOLVER.AMP.ENABLED", True))
    assert result.last["total_loss"] > 0
    cfg = toy_cfg("b")
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE = True, "float16"
    with pytest.raises(UserError, match="bf16"):
        run(cfg)


def test_evaluation_keeps_the_best(toy_cfg: MakeConfig) -> None:
    figures = iter([{"segm/AP": 2.0}, {"segm/AP": 5.0, "segm/APs": None}, {"segm/AP": 3.0}])

    def evaluate(model: nn.Module) -> dict[str, float | None]:
        assert not model.training
        torch.rand(3)
        return next(figures)

    result = run(toy_cfg("a"), hooks=[EvaluationHook(3, evaluate)])
    assert result.best == {"iteration": 6, "value": 5.0}
    assert (
        torch.load(result.output_dir / "model_best.pth", weights_only=True)["meta"]["value"] == 5.0
    )
    assert [row["eval/segm/AP"] for row in rows(result) if row["eval/segm/AP"]] == ["2", "5", "3"]
    assert_same(weights(result), weights(run(toy_cfg("b"))))  # looking changes nothing


def test_progress_line(toy_cfg: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(toy_cfg())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the first row and the last: not too chatty
    assert "step 12/12" in lines[-1]
    assert "img/s" in lines[-1]
    assert "ETA 0:00" in lines[-1]


def test_bar_on_a_terminal(toy_cfg: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    run(toy_cfg(), hooks=[ConsoleProgress(stream=Terminal())])
