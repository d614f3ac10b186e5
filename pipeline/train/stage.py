"""The stage ``train``: from the prepared index to weights, curve and a record of both."""

from __future__ import annotations

import csv
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
from condinst.atomic import write_json
from condinst.config import load_config
from condinst.cores import processor_name
from condinst.errors import UserError
from pipeline import runs, tracking
from pipeline.identity import FILE, Identity, explanation
from pipeline.layout import TRAINED
from pipeline.params import Params, as_dict
from pipeline.recipe import PreparedData, Recipe, resolve
from pipeline.train import preflight
from pipeline.train.job import Job
from pipeline.train.key import identity_of, run_key, workers_of
from pipeline.train.masks import check_masks
from pipeline.train.options import TrainOptions
from pipeline.train.start import check_launcher, start_job
from pipeline.train.tuning import settled, tune

__all__ = [
    "TRAINED",
    "Destination",
    "environment",
    "run",
    "run_key",
    "train_into",
]
_OF_DATA = ("dataset.json", "sheets")  # kept with a run


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a training appears besides its own folder.

    Attributes:
        output: replaced as a whole when the training is finished.
        name: of the MLflow run.
        parent: MLflow run that it is nested under.
        tags: additional ones for MLflow.
        of_study: it is one of many: wait for another process that trains the same, and continue
            without the tracking server if that does not answer.
    """

    output: Path
    name: str
    parent: str | None = None
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    of_study: bool = False


def run(params: Params, options: TrainOptions | None = None) -> None:
    """Train as params.yaml says and leave the result in ``outputs/train``.

    A finished training with the same hash is reused, an interrupted one resumes.

    Args:
        params: of the experiment.
        options: for this call only.

    Raises:
        UserError: the request cannot be run; nothing is half-written.
    """
    options = options or TrainOptions()
    if options.skip_preflight:
        params = dataclasses.replace(
            params, train=dataclasses.replace(params.train, skip_preflight=True)
        )
    if options.debugs:
        from pipeline.train import debugging

        debugging.run(params, options)
        return
    place = Destination(TRAINED, params.profile)
    data = PreparedData.load()
    _check_images(data)
    tune(params, data)
    train_into(settled(params, data), data, place, max_seconds=options.max_seconds)


def train_into(
    params: Params,
    data: PreparedData,
    place: Destination,
    hooks: Sequence[HookBase] = (),
    *,
    max_seconds: float = 0.0,
) -> dict[str, Any]:
    """Train in ``.runs/<hash>`` and copy the result to an output folder.

    Args:
        params: with a variant's changes applied.
        data: prepared.
        place: where the result goes and what it is called.
        hooks: only for a training in this process.
        max_seconds: after which to stop; the same command resumes. 0: no limit.

    Returns:
        The content of ``run.json``; empty in processes other than rank 0.
    """
    check_launcher(params.train)
    _check_images(data)
    recipe = resolve(params, data)
    identity = identity_of(params, data, recipe)
    key = identity.key
    folder = (runs.RUNS / key).resolve()
    recipe.cfg.OUTPUT_DIR, recipe.cfg.SOLVER.MAX_SECONDS = str(folder), max_seconds
    worker = engine.torchrun_worker()
    if worker is not None and worker.rank > 0:
        start_job(_job(params, data, recipe, None), params.train)
        return {}
    store = tracking.connect(params.tracking, optional=place.of_study)
    with runs.locked(folder, wait=place.of_study):
        result = engine.TrainResult.load(folder)
        if result is not None and worker is not None:  # the others wait
            start_job(_job(params, data, recipe, None), params.train)
        ledger = _Ledger(folder, place.parent)
        if result is None or not ledger.holds(store):
            with _open_run(store, params, data, recipe, place, ledger) as run:
                if result is None:
                    _say_why(identity, folder, place)
                    result = _train(params, data, recipe, run.address, hooks)
                else:
                    run.log_rows(_curve(folder))
                    run.set_tags({"same_training_as": key})
                names = ("config.yaml", "curve.csv", "environment.json")
                run.log_artifacts([folder / item for item in names])
                run.log_model(folder / "model.pth", folder / "config.yaml")
        else:
            _say(f"{place.name}: this training is already finished, in {runs.RUNS / key}")
        record = _record(folder, result, data, key, ledger.address)
        write_json(folder / "run.json", record)
        names = (
            "model.pth",
            "model_best.pth",
            "model_raw.pth",
            "config.yaml",
            "curve.csv",
            "environment.json",
        )
        files = {item: folder / item for item in (*names, "run.json") if (folder / item).exists()}
        runs.publish(files, place.output)
    return record


def _check_images(data: PreparedData) -> None:
    if not (data.root / "train").is_dir():
        raise UserError(
            f"{data.root} has no images to train on: dataset.subset.train is 0; raise it, then "
            "run `python cli.py acquire` and `prepare` again"
        )


class _Ledger:
    """The MLflow runs of one training: one under each parent that requested it.

    Args:
        folder: of the training.
        parent: the one that requests it now.
    """

    def __init__(self, folder: Path, parent: str | None) -> None:
        self.path = folder / "tracking.json"
        self.parent = parent or "main"
        self._all = runs.read_json(self.path, "train") if self.path.exists() else {}

    @property
    def address(self) -> dict[str, Any]:
        """Address of the run under the parent; empty if there is none."""
        return self._all.get(self.parent, {})

    def holds(self, store: tracking.Store | None) -> bool:
        """Whether a finished training is fully recorded."""
        return store is None or store.has(self.address.get("run_id", ""))

    def enter(self, run: tracking.Run) -> None:
        """Record a run before anything is logged to it, so that a restart finds it."""
        if run.address is not None:
            self._all[self.parent] = dataclasses.asdict(run.address)
            write_json(self.path, self._all)


def _open_run(
    store: tracking.Store | None,
    params: Params,
    data: PreparedData,
    recipe: Recipe,
    place: Destination,
    ledger: _Ledger,
) -> tracking.Run:
    run = tracking.open_run(
        store,
        place.name,
        _tracked_params(params, recipe.cfg),
        {**tracking.common_tags(params, data.hash, recipe.cfg), **place.tags},
        parent=place.parent,
        former=ledger.address.get("run_id"),
    )
    ledger.enter(run)
    run.log_dataset(data.name, data.hash[:36], str(data.root), "training")
    run.log_artifacts([data.root / name for name in _OF_DATA], "dataset")
    return run


def _train(
    params: Params,
    data: PreparedData,
    recipe: Recipe,
    address: tracking.Address | None,
    hooks: Sequence[HookBase],
) -> engine.TrainResult:
    folder = Path(recipe.cfg.OUTPUT_DIR)
    for note in (*recipe.notes, *check_masks(recipe.cfg, data), *_preflight(params, data, recipe)):
        _say(f"note: {note}")
    (folder / "config.yaml").write_text(recipe.cfg.dump())
    write_json(folder / "environment.json", environment(params, recipe.cfg))
    start_job(_job(params, data, recipe, address), params.train, hooks)
    result = engine.TrainResult.load(folder)
    assert result is not None, folder
    return result


def _say_why(identity: Identity, folder: Path, place: Destination) -> None:
    """Store this training's identity; say what has changed since a similar one."""
    if not (folder / FILE).exists():
        record = place.output / "run.json"
        last = runs.read_json(record, "train").get("hash", "") if record.is_file() else ""
        why = explanation(identity, folder.parent, last)
        if why:
            _say(f"{place.name}: {why}")
    write_json(folder / FILE, dataclasses.asdict(identity))


def _job(
    params: Params, data: PreparedData, recipe: Recipe, address: tracking.Address | None
) -> Job:
    return Job(
        recipe.cfg.dump(),
        data.root,
        params.train.eval_period or 0,
        params,
        address,
        data.hash,
        elastic=isinstance(workers_of(params), str),
        stores=params.train.launcher == "ray" and params.ray.storage is not None,
    )


def _preflight(params: Params, data: PreparedData, recipe: Recipe) -> list[str]:
    overrides, workers = params.model.overrides, workers_of(params)
    most = params.train.num_gpus or params.train.num_processes
    return preflight.check(
        recipe.cfg,
        load_config(params.model.config, [str(x) for item in overrides.items() for x in item]),
        classes=len(data.classes),
        asked_classes=overrides.get("MODEL.FCOS.NUM_CLASSES"),
        workers=workers if isinstance(workers, int) else most,
        skip_preflight=params.train.skip_preflight,
    )


def _curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "curve.csv").open(newline="") as file:
        return [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


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
    folder: Path,
    result: engine.TrainResult,
    data: PreparedData,
    key: str,
    address: Mapping[str, Any],
) -> dict[str, Any]:
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
        "parts": result.parts,
        "stopped": result.stopped,
        "last": result.last,
    }


def environment(params: Params, cfg: CfgNode) -> dict[str, Any]:
    """The machine and the versions that a training ran on."""
    names = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless", "timm", "mlflow")
    here = min(params.train.num_gpus, torch.cuda.device_count())  # Ray may use other machines'
    gpus = [torch.cuda.get_device_name(i) for i in range(here)]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": cfg.SOLVER.NUM_THREADS or torch.get_num_threads(),
        "memory_format": cfg.SOLVER.MEMORY_FORMAT,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "device": cfg.MODEL.DEVICE,
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "packages": {name: metadata.version(name) for name in names},
        "code": runs.code_hash(),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
