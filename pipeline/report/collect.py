"""Reads what the stages left; what is not there is named, with the command that makes it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.layout import PREPARED, RAW
from pipeline.params import Ablation

Record = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """Where the stages' folders lie."""

    root: Path = Path()

    @property
    def raw(self) -> Path:
        """The stage `acquire`."""
        return self.root / RAW

    @property
    def prepared(self) -> Path:
        """The stage `prepare`."""
        return self.root / PREPARED

    def output(self, stage: str) -> Path:
        """Any later stage."""
        return self.root / "outputs" / stage


@dataclass(frozen=True)
class Missing:
    """A part that the report does without.

    Attributes:
        what: It would show.
        command: That makes it.
        reason: Why it is not there.
    """

    what: str
    command: str
    reason: str


@dataclass(frozen=True)
class Training:
    """One training of a study, as its folder has it."""

    variant: str
    seed: int
    run: Record
    metrics: Record
    curve: list[dict[str, float]]


@dataclass(frozen=True)
class Study:
    """One ablation study: what was asked, what ran, and its comparison where there is one."""

    name: str
    asked: Ablation
    trainings: list[Training]
    comparison: Record


@dataclass
class Findings:
    """Everything that the report is made of; empty where a stage has not run."""

    layout: Layout
    dataset: Record = field(default_factory=dict)
    manifest: Record = field(default_factory=dict)
    object_sizes: list[dict[str, str]] = field(default_factory=list)
    run: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    metrics: Record = field(default_factory=dict)
    per_class: Record = field(default_factory=dict)
    evaluation: Record = field(default_factory=dict)
    errors: Record = field(default_factory=dict)
    pr_curves: list[dict[str, str]] = field(default_factory=list)
    per_image: Any = None
    detections: list[Record] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    comparison: Record = field(default_factory=dict)
    sweep: Record = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)

    def lacks(self, command: str) -> Missing | None:
        """The missing part that a command makes, if any."""
        return next((part for part in self.missing if part.command == command), None)


def collect(ablations: Mapping[str, Ablation], root: Path = Path()) -> Findings:
    """Reads all folders.

    Args:
        ablations: The studies of params.yaml.
        root: Of the project.
    """
    layout = Layout(root)
    found = Findings(layout)
    reader = _Reader(found)
    prepared, train, evaluate = layout.prepared, layout.output("train"), layout.output("evaluate")
    manifest = layout.raw / "manifest.json"
    if manifest.exists() or not (prepared / "dataset.json").exists():  # else it is not missed
        found.manifest = reader.json(manifest, "the origin of the data", "acquire")
    found.dataset = reader.json(prepared / "dataset.json", "the dataset", "prepare")
    sizes = prepared / "plots/object_sizes.csv"
    found.object_sizes = reader.csv(sizes, "sizes of objects", "prepare")
    found.run = reader.json(train / "run.json", "the training", "train")
    found.environment = reader.json(train / "environment.json", "the environment", "train")
    found.curve = _numbers(reader.csv(train / "curve.csv", "loss curves", "train"))
    found.metrics = reader.json(evaluate / "metrics.json", "the COCO numbers", "evaluate")
    found.per_class = reader.json(evaluate / "per_class.json", "AP per class", "evaluate")
    found.evaluation = reader.json(evaluate / "evaluation.json", "the evaluator", "evaluate")
    found.errors = reader.json(evaluate / "errors.json", "kinds of errors", "evaluate")
    found.pr_curves = reader.csv(evaluate / "pr_curves.csv", "precision and recall", "evaluate")
    found.per_image = reader.json(evaluate / "per_image.json", "quality per image", "evaluate")
    found.detections = reader.json(evaluate / "detections.json", "predictions", "evaluate") or []
    for name, asked in ablations.items():
        trainings = _trainings(layout.output("ablate") / name, name, asked, reader)
        if trainings:
            found.studies.append(Study(name, asked, trainings, {}))
    if ablations:
        path = layout.output("compare") / "comparison.json"
        found.comparison = reader.json(path, "differences between variants", "compare")
        compared = found.comparison.get("studies") or {}
        found.studies = [
            replace(study, comparison=compared.get(study.name) or {}) for study in found.studies
        ]
    sweep = layout.output("sweep") / "results.json"
    if sweep.exists():  # a sweep is asked for, never missed
        found.sweep = reader.json(sweep, "the sweep", "sweep")
    return found


def _trainings(folder: Path, study: str, asked: Ablation, reader: _Reader) -> list[Training]:
    """The trainings of a study that were evaluated."""
    trainings = []
    for variant in asked.variants:
        for seed in asked.seeds:
            place = folder / variant / f"seed{seed}"
            what, stage = f"the study {study}", f"ablate {study}"
            metrics = reader.json(place / "evaluate/metrics.json", what, stage)
            if metrics:
                run = reader.json(place / "train/run.json", what, stage)
                curve = _numbers(reader.csv(place / "train/curve.csv", what, stage))
                trainings.append(Training(variant, seed, run, metrics, curve))
    return trainings


def _numbers(rows: list[dict[str, str]]) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


class _Reader:
    """Reads files and notes each stage that left none, once."""

    def __init__(self, found: Findings) -> None:
        self.missing = found.missing

    def json(self, path: Path, what: str, stage: str) -> Any:
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            self._note(what, stage, f"{path} is not there")
        except (OSError, ValueError) as error:
            self._note(what, stage, f"{path} cannot be read: {error}")
        return {}

    def csv(self, path: Path, what: str, stage: str) -> list[dict[str, str]]:
        try:
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            self._note(what, stage, f"{path} is not there")
        except (OSError, ValueError, csv.Error) as error:
            self._note(what, stage, f"{path} cannot be read: {error}")
        return []

    def _note(self, what: str, stage: str, reason: str) -> None:
        command = f"python cli.py {stage}"
        if not any(part.command == command for part in self.missing):
            self.missing.append(Missing(what, command, reason))
