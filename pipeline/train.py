"""The stage ``train``: from the prepared index to weights, curve and a record of both."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from condinst import engine
from pipeline import runs, tracking
from pipeline.config_file import train_from_config_file
from pipeline.job import Job, train_job
from pipeline.params import Params, as_dict
from pipeline.recipe import PreparedData, Recipe, resolve

__all__ = ["OUTPUT", "environment", "run", "train_from_config_file", "train_into"]
OUTPUT = Path("outputs/train")


def run(params: Params) -> None:
    """Train as params.yaml says and leave the result in ``outputs/train``.

    A finished training of the same hash is used again, an interrupted one goes on.

    Raises:
        UserError: what is asked for cannot be run; nothing is half-written.
    """
    data = PreparedData.load()
    train_into(params, data, OUTPUT, name=params.profile)


def train_into(
    params: Params,
    data: PreparedData,
    output: Path,
    *,
    name: str,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    hooks: Sequence[HookBase] = (),
) -> dict[str, Any]:
    """Train in ``.runs/<hash>`` and copy the result to an output folder.

    Args:
        params: with all changes of a variant made.
        data: prepared.
        output: replaced as a whole when the training is finished.
        name: of the MLflow run.
        parent: MLflow run that it is nested under.
        tags: further ones for MLflow.
        hooks: for a training in this very process alone.

    Returns:
        The content of ``run.json``.
    """
    engine.check_gpus(params.train.num_gpus)
    recipe = resolve(params, data)
    processes = params.train.num_gpus or params.train.num_processes
    eval_period = params.train.eval_period or 0
    key = runs.run_hash(recipe.cfg, data.hash, processes=processes, eval_period=eval_period)
    folder = (runs.RUNS / key).resolve()
    with runs.locked(folder):
        recipe.cfg.OUTPUT_DIR = str(folder)
        result = engine.TrainResult.load(folder)
        if result is None:
            result = _train(params, data, recipe, folder, name, parent, tags or {}, hooks)
        else:
            _say(f"{name}: the same training is finished in {runs.RUNS / key}; used again")
        record = _record(folder, result, data, key)
        runs.write_json(folder / "run.json", record)
        names = ("model.pth", "model_best.pth", "config.yaml", "curve.csv", "environment.json")
        files = {item: folder / item for item in (*names, "run.json") if (folder / item).exists()}
        runs.publish(files, output)
    return record


def _train(
    params: Params,
    data: PreparedData,
    recipe: Recipe,
    folder: Path,
    name: str,
    parent: str | None,
    tags: Mapping[str, str],
    hooks: Sequence[HookBase],
) -> engine.TrainResult:
    for note in recipe.notes:
        _say(f"{name}: {note}")
    store = tracking.connect(params.tracking)
    former = _former_run(folder)
    all_tags = {**tracking.common_tags(params, data.hash, recipe.cfg), **tags}
    values = _tracked_params(params, recipe.cfg)
    with tracking.open_run(store, name, values, all_tags, parent=parent, former=former) as run:
        address = run.address
        runs.write_json(folder / "tracking.json", dataclasses.asdict(address) if address else {})
        (folder / "config.yaml").write_text(recipe.cfg.dump())
        runs.write_json(folder / "environment.json", environment(params, recipe.cfg))
        job = Job(recipe.cfg.dump(), data.root, params.train.eval_period or 0, params, address)
        engine.launch(
            train_job,
            (job, tuple(hooks)),
            num_gpus=params.train.num_gpus,
            num_processes=params.train.num_processes,
        )
        result = engine.TrainResult.load(folder)
        assert result is not None, folder
        run.log_artifacts(
            [
                folder / item
                for item in ("model.pth", "config.yaml", "curve.csv", "environment.json")
            ]
        )
    return result


def _former_run(folder: Path) -> str | None:
    path = folder / "tracking.json"
    return runs.read_json(path, "train").get("run_id") if path.exists() else None


def _tracked_params(params: Params, cfg: CfgNode) -> dict[str, Any]:
    plain = as_dict(params)
    sections = {key: plain[key] for key in ("profile", "dataset", "model", "train", "evaluate")}
    resolved = {
        "SOLVER": cfg.SOLVER,
        "INPUT": cfg.INPUT,
        "MODEL": {"CONDINST": cfg.MODEL.CONDINST, "FCOS": cfg.MODEL.FCOS},
    }
    return {**sections, **resolved}


def _record(
    folder: Path, result: engine.TrainResult, data: PreparedData, key: str
) -> dict[str, Any]:
    address = runs.read_json(folder / "tracking.json", "train")
    return {
        "hash": key,
        "run_dir": os.path.relpath(folder),
        "run_id": address.get("run_id"),
        "experiment_id": address.get("experiment_id"),
        "data_hash": data.hash,
        "dataset": data.name,
        "git_commit": tracking.git_commit(),
        "seed": result.seed,
        "steps": result.steps,
        "seconds": result.seconds,
        "best": result.best,
        "last": result.last,
    }


def environment(params: Params, cfg: CfgNode) -> dict[str, Any]:
    """The machine and the versions that a training ran on."""
    names = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless", "timm", "mlflow")
    gpus = [torch.cuda.get_device_name(i) for i in range(params.train.num_gpus)]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": cfg.MODEL.DEVICE,
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "packages": {name: metadata.version(name) for name in names},
        "code": runs.code_hash(),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
