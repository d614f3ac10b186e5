"""What an ablation study consists of, and what it leaves."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from condinst.atomic import write_json
from condinst.errors import UserError
from pipeline import runs
from pipeline.identity import of_evaluation
from pipeline.layout import STUDIES
from pipeline.params import METRICS, Ablation, Params, as_dict, override
from pipeline.params.schema import nearest
from pipeline.recipe import PreparedData, own_threads
from pipeline.train.stage import run_key
from pipeline.train.tuning import settled


@dataclasses.dataclass(frozen=True)
class Trial:
    """One variant under one seed.

    Attributes:
        study: its name.
        variant: its name.
        seed: of the training.
        params: with the variant's changes made.
        key: of the training, the same for trials that ask for the same one.
    """

    study: str
    variant: str
    seed: int
    params: Params
    key: str

    @property
    def name(self) -> str:
        """For people: ``mask_loss/stride4 seed 0``."""
        return f"{self.study}/{self.variant} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Gets ``train`` and ``evaluate``."""
        return STUDIES / self.study / self.variant / f"seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        trial: it.
        state: ``finished`` or ``failed``.
        error: why it failed.
        record: ``run.json`` of its training.
        metrics: task -> name -> percent.
    """

    trial: Trial
    state: str
    error: str = ""
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float | None]] = dataclasses.field(default_factory=dict)


def plan(params: Params, name: str, data: PreparedData) -> list[Trial]:
    """All trials of a study, seed by seed.

    Raises:
        UserError: there is no such study, or a variant's keys do not fit the recipe.
    """
    if name not in params.ablations:
        known = ", ".join(params.ablations) or "none"
        raise UserError(f"ablations.{name} is not in params.yaml; studies there: {known}")
    study = params.ablations[name]
    trials = [
        _trial(params, name, study, variant, seed, data)
        for seed in study.seeds
        for variant in study.variants
    ]
    first: dict[str, Trial] = {}
    for trial in trials:
        twin = first.setdefault(trial.key, trial)
        if twin is not trial:
            raise UserError(
                f"ablations.{name}.variants.{trial.variant} is the very same training as variant "
                f"{twin.variant}: its changes are what the recipe says anyway; every variant must "
                "differ"
            )
    return trials


def with_seeds(params: Params, name: str, number: int | None) -> Params:
    """The study with so many seeds: its own first, then the next unused numbers."""
    if number is None or name not in params.ablations:
        return params
    study = params.ablations[name]
    more = (seed for seed in itertools.count() if seed not in study.seeds)
    seeds = (*study.seeds, *itertools.islice(more, number))[:number]
    studies = {**params.ablations, name: dataclasses.replace(study, seeds=seeds)}
    return dataclasses.replace(params, ablations=studies)


def select(trials: Sequence[Trial], variants: Sequence[str]) -> list[Trial]:
    """The trials of some variants; of all if none is named.

    Raises:
        UserError: the study has no such variant.
    """
    known = dict.fromkeys(trial.variant for trial in trials)
    for variant in variants:
        if variant not in known:
            near = nearest(variant, known)
            raise UserError(
                f"{trials[0].study} has no variant {variant}{near}; it has {', '.join(known)}"
            )
    return [trial for trial in trials if not variants or trial.variant in variants]


def former_outcome(trial: Trial, data_hash: str) -> Outcome | None:
    """What an earlier call left of the very same trial, if it finished and is measured as now.

    Args:
        trial: it.
        data_hash: of the prepared data.
    """
    record, metrics = trial.folder / "train/run.json", trial.folder / "evaluate/metrics.json"
    about = trial.folder / "evaluate/evaluation.json"
    if not all(path.is_file() for path in (record, metrics, about)):
        return None
    found = runs.read_json(record, "ablate")
    if found.get("hash") != trial.key:
        return None
    measuring, threads = as_dict(trial.params)["evaluate"], trial.params.train.threads
    measured = of_evaluation(measuring, data_hash, threads=threads or 0).key
    if runs.read_json(about, "ablate").get("evaluation") != measured:
        return None
    return Outcome(trial, "finished", record=found, metrics=runs.read_json(metrics, "ablate"))


def _trial(
    params: Params, name: str, study: Ablation, variant: str, seed: int, data: PreparedData
) -> Trial:
    budget: dict[str, Any] = {} if study.steps is None else {"train.steps": study.steps}
    budget |= own_threads(params)
    try:
        changed = override(params, {**budget, **study.variants[variant], "train.seed": seed})
        changed = settled(changed, data)
        return Trial(name, variant, seed, changed, run_key(changed, data))
    except UserError as error:
        raise UserError(f"ablations.{name}.variants.{variant}: {error}") from error


def shared_trainings(
    trials: Sequence[Trial], params: Params, data: PreparedData
) -> dict[str, list[str]]:
    """Trial's name -> names of the other trials, of any study, that are the very same training."""
    everything = list(trials)
    for study in params.ablations:
        if study != trials[0].study:
            with contextlib.suppress(UserError):  # its own stage will say what is wrong with it
                everything += plan(params, study, data)
    return {
        trial.name: [
            other.name
            for other in everything
            if other.key == trial.key and other.name != trial.name
        ]
        for trial in trials
    }


def write_results(
    params: Params,
    study: str,
    outcomes: Sequence[Outcome],
    same: Mapping[str, Sequence[str]],
    parent: Mapping[str, Any],
) -> Path:
    """Write ``results.json``, ``table.csv`` and ``metrics.json`` of a study.

    Args:
        params: with the study.
        study: its name.
        outcomes: so far.
        same: trial's name -> names of trials that are the same training.
        parent: the study's MLflow run, ``run_id`` and ``experiment_id``; empty without one.

    Returns:
        The study's folder.
    """
    section, folder = params.ablations[study], STUDIES / study
    results = {
        "study": study,
        "question": section.question,
        "baseline": section.baseline,
        "primary": section.primary,
        "steps": section.steps,
        "seeds": list(section.seeds),
        "variants": {name: dict(changes) for name, changes in section.variants.items()},
        "run_id": parent.get("run_id"),
        "experiment_id": parent.get("experiment_id"),
        "runs": [_row(outcome, same.get(outcome.trial.name, ())) for outcome in outcomes],
        "curves": dict(_curves(outcomes)),
    }
    write_json(folder / "results.json", results)
    write_json(folder / "metrics.json", means(outcomes))
    _write_table(folder / "table.csv", outcomes)
    return folder


def means(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[str, float]]]:
    """Variant -> task -> name -> mean over the seeds, of the finished trials."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for variant in dict.fromkeys(outcome.trial.variant for outcome in outcomes):
        for metric in METRICS:
            task, name = metric.split("/")
            values = [
                value
                for outcome in outcomes
                if outcome.trial.variant == variant
                and (value := outcome.metrics.get(task, {}).get(name)) is not None
            ]
            if values:
                mean = sum(values) / len(values)
                found.setdefault(variant, {}).setdefault(task, {})[name] = mean
    return found


def _row(outcome: Outcome, same: Sequence[str]) -> dict[str, Any]:
    record = outcome.record
    return {
        "variant": outcome.trial.variant,
        "seed": outcome.trial.seed,
        "state": outcome.state,
        "error": outcome.error,
        "steps": record.get("steps"),
        "seconds": record.get("seconds"),
        "hash": outcome.trial.key,
        "run_id": record.get("run_id"),
        "experiment_id": record.get("experiment_id"),
        "same_training_as": list(same),
        "metrics": outcome.metrics,
    }


def _curves(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[list[float]]]]:
    """Variant -> (step, mask loss) of its first finished seed."""
    done: set[str] = set()
    for outcome in outcomes:
        path = outcome.trial.folder / "train" / "curve.csv"
        variant = outcome.trial.variant
        if outcome.state != "finished" or variant in done or not path.exists():
            continue
        with path.open(newline="") as file:
            points = [
                [float(row["iteration"]), float(row["loss_mask"])]
                for row in csv.DictReader(file)
                if row.get("loss_mask")
            ]
        done.add(variant)
        yield variant, points


def _write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    columns = ["variant", "seed", "state", "steps", "seconds", *METRICS]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for outcome in outcomes:
            trial, record = outcome.trial, outcome.record
            figures = [
                outcome.metrics.get(task, {}).get(name)
                for task, name in (metric.split("/") for metric in METRICS)
            ]
            cells = [trial.variant, trial.seed, outcome.state]
            cells += [record.get("steps"), record.get("seconds")]
            cells += [None if value is None else round(value, 3) for value in figures]
            writer.writerow(["" if cell is None else cell for cell in cells])
