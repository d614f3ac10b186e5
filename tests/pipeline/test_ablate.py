"""A study of tiny trainings: its tables, what it shares, what a failure leaves."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from condinst.atomic import write_json
from condinst.errors import UserError
from condinst.layers.threads import limited
from pipeline import runs, tracking
from pipeline.params import Ablation, Params, Tracking
from pipeline.recipe import PreparedData
from pipeline.studies import ablate, estimate, study
from tests.conftest import TinyDataset
from tests.pipeline.small import prepare_small, shrink


@pytest.fixture
def project(tmp_path: Path, tiny_dataset: TinyDataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepare_small(tmp_path, tiny_dataset)
    monkeypatch.chdir(tmp_path)
    for module in (ablate, estimate):
        monkeypatch.setattr(module, "fitting_jobs", lambda params, trials: 1)
    return tmp_path


def with_studies(params: Params, **studies: dict[str, dict[str, Any]]) -> Params:
    """Studies of two steps whose first variant is the baseline."""
    made = {
        name: Ablation(
            question="?", baseline=next(iter(variants)), seeds=(0,), steps=2, variants=variants
        )
        for name, variants in studies.items()
    }
    return dataclasses.replace(shrink(params), ablations=made)


STRIDES = {
    "stride8": {"MODEL.CONDINST.MASK_OUT_STRIDE": 8},
    "stride4": {"MODEL.CONDINST.MASK_OUT_STRIDE": 4},
}
COORDS = {
    "relative": {"MODEL.CONDINST.COORDINATES": "relative"},
    "none": {"MODEL.CONDINST.COORDINATES": "none"},
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the trainings really done; they and their evaluations are pretended."""
    done: list[str] = []
    runs_done: set[str] = set()

    def train_into(params: Params, data: PreparedData, place: Any, hooks: Any = ()) -> dict:
        key = study.run_key(params, data)
        if key not in runs_done:
            if params.train.lr == 9:
                raise UserError("lr = 9 is too high")
            done.append(place.name)
            runs_done.add(key)
        place.output.mkdir(parents=True, exist_ok=True)
        (place.output / "config.yaml").write_text("VERSION: 2\n")
        (place.output / "curve.csv").write_text("iteration,loss_mask\n2,0.5\n")
        record = {"run_id": None, "steps": 2, "seconds": 1.5, "hash": key}
        write_json(place.output / "run.json", record)
        return record

    def evaluate_run(
        cfg: Any, weights: Path, data: Path, out: Path, params: Params, **_: Any
    ) -> Any:
        done.append(f"evaluation of {params.train.seed}")
        metrics = {"segm": {"AP": 40.0, "APs": None}, "bbox": {"AP": 50.0}}
        write_json(out / "evaluation.json", {"evaluator": "pretended"})
        write_json(out / "metrics.json", metrics)
        return metrics

    monkeypatch.setattr(ablate, "train_into", train_into)
    monkeypatch.setattr("pipeline.evaluate.stage.evaluate_run", evaluate_run)
    return done


def results(name: str) -> dict[str, Any]:
    return json.loads(Path(f"outputs/ablate/{name}/results.json").read_text())


@pytest.mark.slow
def test_tables(project: Path, tiny_params: Params, trained: list[str]) -> None:
    ablate.run(with_studies(tiny_params, mask_loss=STRIDES), "mask_loss")
    found = results("mask_loss")
    assert (found["study"], found["baseline"], found["steps"]) == ("mask_loss", "stride8", 2)
    assert found["variants"] == STRIDES
    assert [(run["variant"], run["seed"], run["state"]) for run in found["runs"]] == [
        ("stride8", 0, "finished"),
        ("stride4", 0, "finished"),
    ]
    assert found["runs"][0]["metrics"]["segm"]["AP"] == 40.0
    assert found["curves"]["stride4"] == [[2.0, 0.5]]
    metrics = json.loads(Path("outputs/ablate/mask_loss/metrics.json").read_text())
    assert metrics["stride8"] == {"segm": {"AP": 40.0}, "bbox": {"AP": 50.0}}
    with Path("outputs/ablate/mask_loss/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["segm/AP"] for row in rows] == ["40.0", "40.0"]
    assert rows[0]["segm/APs"] == ""


@pytest.mark.slow
def test_equal_trainings_are_done_once_and_said(
    project: Path, tiny_params: Params, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    params = with_studies(tiny_params, mask_loss=STRIDES, coords=COORDS)
    ablate.run(params, "mask_loss")
    ablate.run(params, "coords")
    # stride 4 with relative coordinates is the recipe itself
    assert len([name for name in trained if "evaluation" not in name]) == 3
    rows = {run["variant"]: run for run in results("coords")["runs"]}
    assert rows["relative"]["same_training_as"] == ["mask_loss/stride4 seed 0"]
    assert rows["none"]["same_training_as"] == []
    assert "the same training as mask_loss/stride4 seed 0" in capsys.readouterr().err


def test_failed_variant_does_not_stop_the_others(
    project: Path, tiny_params: Params, trained: list[str]
) -> None:
    params = with_studies(tiny_params, lr={"high": {"train.lr": 9}, "low": {"train.lr": 0.001}})
    with pytest.raises(UserError, match="1 of 2 trials failed") as caught:
        ablate.run(params, "lr")
    assert "lr = 9 is too high" in str(caught.value)
    rows = {run["variant"]: run for run in results("lr")["runs"]}
    assert (rows["high"]["state"], rows["low"]["state"]) == ("failed", "finished")
    assert rows["high"]["metrics"] == {}
    assert list(json.loads(Path("outputs/ablate/lr/metrics.json").read_text())) == ["low"]


def test_seeds_and_what_an_earlier_form_left(
    project: Path, tiny_params: Params, trained: list[str]
) -> None:
    params = with_studies(tiny_params, mask_loss=STRIDES)
    section = dataclasses.replace(params.ablations["mask_loss"], seeds=(3, 5))
    stale = Path("outputs/ablate/mask_loss/gone/seed0")
    stale.mkdir(parents=True)
    ablate.run(dataclasses.replace(params, ablations={"mask_loss": section}), "mask_loss")
    assert [run["seed"] for run in results("mask_loss")["runs"]] == [3, 3, 5, 5]
    assert not stale.exists()


def test_one_variant_alone_and_more_seeds(
    project: Path, tiny_params: Params, trained: list[str]
) -> None:
    params = with_studies(tiny_params, mask_loss=STRIDES)
    ablate.run(params, "mask_loss")
    ablate.run(params, "mask_loss", variants=["stride4"], seeds=2)
    found = [(run["variant"], run["seed"]) for run in results("mask_loss")["runs"]]
    assert found == [("stride8", 0), ("stride4", 0), ("stride4", 1)]
    assert results("mask_loss")["seeds"] == [0, 1]
    assert "mask_loss/stride8 seed 1" not in trained
    with pytest.raises(UserError, match=r"no variant stride5 \(did you mean stride"):
        ablate.run(params, "mask_loss", variants=["stride5"])


def test_what_is_finished_is_not_done_again(
    project: Path, tiny_params: Params, trained: list[str]
) -> None:
    params = with_studies(tiny_params, mask_loss=STRIDES)
    ablate.run(params, "mask_loss")
    before = list(trained)
    shutil.rmtree("outputs")  # as DVC does before it starts a stage again
    ablate.run(params, "mask_loss")
    assert trained == before
    assert len(results("mask_loss")["runs"]) == 2


def test_variants_that_are_the_same_training(project: Path, tiny_params: Params) -> None:
    variants = {"usual": {}, "stride4": STRIDES["stride4"]}
    with pytest.raises(UserError, match="stride4 is the very same training as variant usual"):
        ablate.run(with_studies(tiny_params, mask_loss=variants), "mask_loss")


def test_estimate_of_a_study(project: Path, tiny_params: Params, trained: list[str]) -> None:
    params = with_studies(tiny_params, mask_loss=STRIDES)
    unknown = estimate.describe(estimate.costs(params, "mask_loss", seeds=3), params)
    assert "6 runs, 0 of them trained already; 12 steps to do, 1 at a time" in unknown
    assert "time: unknown" in unknown
    assert "disk: unknown" in unknown
    assert not Path(".runs").exists()

    data = PreparedData.load()
    trial = study.plan(params, "mask_loss", data)[0]
    folder = runs.RUNS / trial.key
    cfg = study_cfg(trial.params, data)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg)
    result = {"steps": 2, "start_step": 0, "seed": 0, "seconds": 60.0, "last": {}, "best": {}}
    (folder / "result.json").write_text(json.dumps(result))
    first, second = estimate.costs(params, "mask_loss")
    assert (first.done, first.steps, second.done, second.seconds) == (True, 0, False, 60.0)
    known = estimate.describe([first, second], params)
    assert "2 runs, 1 of them trained already; 2 steps to do" in known
    assert "time: 1 min 00 s" in known
    assert "disk: about 1 MB" in known


def study_cfg(params: Params, data: PreparedData) -> str:
    from pipeline.recipe import resolve

    return resolve(params, data).cfg.dump()


@pytest.mark.parametrize(
    ("name", "variants", "message"),
    [
        ("none", STRIDES, "studies there: mask_loss"),
        ("mask_loss", {"a": {"MODEL.CONDINST.MASK_STRIDE": 8}}, "variants.a"),
    ],
)
def test_studies_that_cannot_be_planned(
    project: Path, tiny_params: Params, name: str, variants: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ablate.run(with_studies(tiny_params, mask_loss=variants), name)
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_nested_runs_in_mlflow(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really trains: two studies that share one training, each with it under its own parent."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = with_studies(
        tiny_params, a={"four": STRIDES["stride4"]}, b={"relative": COORDS["relative"]}
    )
    params = dataclasses.replace(params, tracking=Tracking(enabled=True, experiment="x"))
    for name in ("a", "b", "a"):
        ablate.run(params, name)
    assert len(list(project.glob(".runs/*/result.json"))) == 1
    store = tracking.connect(params.tracking)
    assert store is not None
    found = store.client.search_runs([store.experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    parents = {run.info.run_name: run.info.run_id for run in found}
    assert set(parents) == {"ablate a", "ablate b", "a/four seed 0", "b/relative seed 0"}
    for name, child in (("a", "a/four seed 0"), ("b", "b/relative seed 0")):
        run = store.client.get_run(parents[child])
        assert run.data.tags["mlflow.parentRunId"] == parents[f"ablate {name}"]
        assert "segm/AP" in run.data.metrics
        assert "total_loss" in run.data.metrics
    assert results("b")["runs"][0]["run_id"] == parents["b/relative seed 0"]


@pytest.fixture
def ray_off() -> Callable[[], None]:
    import ray

    return ray.shutdown


BROKEN = {"broken": {"MODEL.CONDINST.COORDINATES": "sideways"}}


@pytest.mark.slow
def test_side_by_side(
    project: Path, tiny_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    params = with_studies(tiny_params, mask_loss={**STRIDES, **BROKEN})
    with pytest.raises(UserError, match="1 of 3 trials failed"):
        ablate.run(params, "mask_loss", 2)
    states = [run["state"] for run in results("mask_loss")["runs"]]
    assert states == ["finished", "finished", "failed"]
    said = capsys.readouterr().err
    assert "[3/3]" in said
    assert "train: step" not in said  # it stands in each training's own log
    logs = [path.read_text() for path in project.glob(".runs/*/log.txt")]
    assert sum("train: step 2/2" in text for text in logs) == 2


@pytest.mark.slow
def test_through_ray(
    project: Path,
    tiny_params: Params,
    ray_off: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ablate, "_runner", lambda *_: ablate._through_ray)
    variants = STRIDES | BROKEN
    try:
        with pytest.raises(UserError, match="1 of 3 trials failed"):
            ablate.run(with_studies(tiny_params, mask_loss=variants), "mask_loss", 2)
    finally:
        ray_off()
    assert [run["state"] for run in results("mask_loss")["runs"]] == [
        "finished",
        "finished",
        "failed",
    ]


@pytest.mark.parametrize(
    ("train", "trials", "jobs"),
    [({}, 9, 4), ({}, 3, 3), ({}, 0, 1), ({"threads": 2}, 9, 2), ({"threads": 8}, 9, 1),
     ({"num_processes": 2}, 9, 2)],
)  # fmt: skip
def test_one_training_a_core(
    train: dict[str, int], trials: int, jobs: int, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "available_cores", lambda: 4)
    params = dataclasses.replace(params, train=dataclasses.replace(params.train, **train))
    assert ablate.fitting_jobs(params, trials) == jobs


@pytest.mark.parametrize(
    ("gpus", "asked", "at_once", "said"),
    [
        (0, None, 2, ""),
        (0, 2, 2, ""),
        (0, 99, 9, "9 at a time share 2 cores: no faster than 2\n"),
        (1, 99, 2, "2 instead of 9 at a time: no more have the GPUs that they need\n"),
    ],
)
def test_what_is_asked_for_beyond_the_machine(
    gpus: int, asked: int | None, at_once: int, said: str, params: Params,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(ablate, "available_cores", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    params = dataclasses.replace(params, train=dataclasses.replace(params.train, num_gpus=gpus))
    assert ablate._concurrency(params, 9, asked) == at_once
    assert capsys.readouterr().err == said


def test_what_an_interrupt_leaves(
    project: Path, trained: list[str], tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ablate.train_into

    def train_into(params: Params, data: PreparedData, place: Any) -> dict[str, Any]:
        if "stride4" in place.name:
            raise KeyboardInterrupt
        return whole(params, data, place)

    params = with_studies(tiny_params, mask_loss=STRIDES)
    with monkeypatch.context() as patch:
        patch.setattr(ablate, "train_into", train_into)
        kept = r"ablation mask_loss: interrupted. Kept: 1 of 2 trials.*The same command goes on"
        with pytest.raises(KeyboardInterrupt, match=kept):
            ablate.run(params, "mask_loss")
    ablate.run(params, "mask_loss")
    assert [name for name in trained if "evaluation" not in name] == [
        "mask_loss/stride8 seed 0",
        "mask_loss/stride4 seed 0",
    ]


def test_a_studys_trainings_state_their_threads(project: Path, tiny_params: Params) -> None:
    data = PreparedData.load()
    params = with_studies(tiny_params, mask_loss=STRIDES)
    (one, _) = study.plan(params, "mask_loss", data)
    assert one.params.train.threads == 1
    alike = dataclasses.replace(one.params.train, threads=2)
    assert study.run_key(dataclasses.replace(one.params, train=alike), data) != one.key
    # what `train` does by the same number of threads is shared
    given = dataclasses.replace(params, train=dataclasses.replace(params.train, threads=1))
    assert study.plan(given, "mask_loss", data)[0].key == one.key


@pytest.mark.slow
def test_alone_and_beside_another_give_the_same_bits(project: Path, tiny_params: Params) -> None:
    """In this process with two threads, then in processes of their own that run at once."""
    params = with_studies(tiny_params, mask_loss=STRIDES)
    place = Path("outputs/ablate/mask_loss/stride8/seed0")
    with limited(2):
        ablate.run(params, "mask_loss", 1, variants=["stride8"])
        assert torch.get_num_threads() == 2
    alone = torch.load(place / "train/model.pth")["model"]
    found = (place / "evaluate/detections.json").read_bytes()
    about = json.loads((place / "train/environment.json").read_text())
    assert (about["threads"], about["memory_format"]) == (1, "channels_last")
    shutil.rmtree(".runs")
    shutil.rmtree("outputs")
    ablate.run(params, "mask_loss", 2)
    beside = torch.load(place / "train/model.pth")["model"]
    assert all(torch.equal(alone[name], beside[name]) for name in alone)
    assert alone.keys() == beside.keys()
    assert (place / "evaluate/detections.json").read_bytes() == found
