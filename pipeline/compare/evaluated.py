"""Evaluations that lie in folders, in DVC revisions or in MLflow, ready to be compared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from condinst.evaluation.bootstrap import EVERY, Samples, image_draws, sample
from condinst.evaluation.differences import check_same_data
from condinst.evaluation.inputs import GroundTruth, load_ground_truth
from condinst.evaluation.losses import LostAp, lost_ap
from condinst.evaluation.matching import Matches, match_detections
from condinst.metrics import MASK_TASKS
from pipeline import runs
from pipeline.layout import EVALUATED, PREPARED

VAL_ANNOTATIONS = PREPARED / "val" / "annotations.json"
_MLFLOW_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluation.

    Attributes:
        name: For tables.
        folder: What the stage ``evaluate`` wrote.
        about: Its ``evaluation.json``.
        metrics: Its ``metrics.json``.
    """

    name: str
    folder: Path
    about: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]

    @classmethod
    def load(cls, folder: Path, name: str) -> EvaluatedRun:
        """Read a folder that the stage ``evaluate`` wrote.

        Raises:
            UserError: files are missing or damaged.
        """
        for part in ("evaluation.json", "metrics.json", "detections.json"):
            if not (folder / part).is_file():
                raise UserError(
                    f"{folder} holds no evaluation ({part} is missing): give a folder that "
                    "`python cli.py evaluate` or `ablate` wrote"
                )
        about = runs.read_json(folder / "evaluation.json", "evaluate")
        return cls(name, folder, about, runs.read_json(folder / "metrics.json", "evaluate"))

    def measures(self, task: str) -> bool:
        """Whether its detections can be measured so; a former version knew no boundaries."""
        return task in self.metrics or (task in MASK_TASKS and "segm" in self.metrics)

    @property
    def max_dets(self) -> int:
        """The limit on detections an image and category."""
        return int(self.about.get("max_detections", 100))

    def annotations(self) -> Path:
        """The ground truth it was measured against.

        Raises:
            UserError: it is not there any more, or has changed since.
        """
        wanted = self.about.get("annotations_sha256")
        tried = [Path(str(self.about.get("annotations", VAL_ANNOTATIONS))), VAL_ANNOTATIONS]
        for path in tried:
            if path.is_file() and runs.file_hash(path) == wanted:
                return path
        raise UserError(
            f"the annotations that {self.folder} was measured against (sha256 {wanted}) are "
            f"neither {tried[0]} nor {tried[1]} any more: prepare that dataset, or evaluate again"
        )


def locate(reference: str | Path, cache: Path) -> EvaluatedRun:
    """Find an evaluation.

    Args:
        reference: a folder (of an evaluation, or above its ``evaluate``), a DVC or git revision,
            or an MLflow run id.
        cache: folder for what has to be fetched.

    Raises:
        UserError: it names nothing that was evaluated.
    """
    folder = Path(reference)
    if folder.is_dir():
        inside = folder / "evaluate"
        chosen = inside if not (folder / "evaluation.json").exists() and inside.is_dir() else folder
        name = chosen.parent if chosen.name == "evaluate" and chosen.parent.name else chosen
        return EvaluatedRun.load(chosen, os.path.relpath(name).removeprefix("outputs/"))
    text = str(reference)
    target = cache / re.sub(r"[^\w.-]", "_", text)
    if _MLFLOW_ID.fullmatch(text):
        return EvaluatedRun.load(_from_mlflow(text, target), text[:8])
    return EvaluatedRun.load(_from_revision(text, target), text)


def check_comparable(found: Sequence[EvaluatedRun]) -> None:
    """Raise UserError unless all were measured on the same data in the same way."""
    reasons = {
        "annotations_sha256": "on different data",
        "max_detections": "with different limits on detections",
        "score_threshold": "with different score thresholds",
        "evaluator": "by different evaluators",
        "evaluator_version": "by different versions of the evaluator",
    }
    one = found[0]
    for other in found[1:]:
        for key, reason in reasons.items():
            if one.about.get(key) != other.about.get(key):
                raise UserError(
                    f"{one.name} and {other.name} were measured {reason} ({key}: "
                    f"{one.about.get(key)} and {other.about.get(key)}) and cannot be compared: "
                    "evaluate both in the same way"
                )


class Sampler:
    """Draws samples of evaluations on one dataset, each evaluation and task once.

    Args:
        draws: number of draws.
        seed: of the draws.
    """

    def __init__(self, draws: int, seed: int) -> None:
        self.draws, self.seed = draws, seed
        self._truths: dict[Path, GroundTruth] = {}
        self._samples: dict[tuple[Path, str], tuple[Matches, Samples]] = {}

    def sample(self, found: Sequence[EvaluatedRun], task: str) -> list[Samples]:
        """Samples of evaluations on the same data.

        Raises:
            UserError: they are not on the same data.
        """
        both = [self._one(one, task) for one in found]
        check_same_data([matches for matches, _ in both])
        return [samples for _, samples in both]

    def metrics(self, found: EvaluatedRun, task: str) -> Mapping[str, float | None]:
        """An evaluation's twelve numbers, measured now if it did not do so itself."""
        if task in found.metrics:
            return found.metrics[task]
        return self._one(found, task)[1].estimate[EVERY]

    def lost(self, found: EvaluatedRun, task: str) -> LostAp:
        """Why an evaluation lost AP, by kind of error."""
        place = found.folder / "detections.json"
        return lost_ap(self._truth(found), place, task=task, max_dets=found.max_dets)

    def _truth(self, found: EvaluatedRun) -> GroundTruth:
        path = found.annotations()
        if path not in self._truths:
            self._truths[path] = load_ground_truth(path)
        return self._truths[path]

    def _one(self, found: EvaluatedRun, task: str) -> tuple[Matches, Samples]:
        key = (found.folder.resolve(), task)
        if key not in self._samples:
            truth, place = self._truth(found), found.folder / "detections.json"
            matches = match_detections(truth, place, task=task, max_dets=found.max_dets)
            multiplicities = image_draws(len(truth.images), self.draws, self.seed)
            self._samples[key] = matches, sample(matches, multiplicities)
        return self._samples[key]


def _from_revision(revision: str, target: Path) -> Path:
    from dvc.api import DVCFileSystem

    try:
        files = DVCFileSystem(rev=revision)
        target.mkdir(parents=True, exist_ok=True)
        for part in ("evaluation.json", "metrics.json", "detections.json"):
            files.get_file(f"{EVALUATED}/{part}", str(target / part))
    except Exception as error:  # DVC, git and every remote raise their own
        raise UserError(
            f"{revision} is neither a folder nor a revision whose {EVALUATED} DVC can fetch "
            f"({type(error).__name__}: {error}): run `dvc pull`, or give a folder"
        ) from error
    return target


def _from_mlflow(run_id: str, target: Path) -> Path:
    from pipeline import tracking

    return tracking.download_evaluation(run_id, target)
