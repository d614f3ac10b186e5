"""What a study will cost, from what earlier trainings took; nothing is run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from condinst import engine
from pipeline import runs
from pipeline.params import Params
from pipeline.recipe import PreparedData, resolve
from pipeline.report.words import duration
from pipeline.studies.ablate import fitting_jobs
from pipeline.studies.study import Trial, plan, select, with_seeds

COPIES = 3  # in .runs, in outputs, in MLflow's store
# Trainings that agree in these take about the same time a step.
_ALIKE = (
    "MODEL.BACKBONE.NAME",
    "MODEL.RESNETS.DEPTH",
    "MODEL.DEVICE",
    "SOLVER.IMS_PER_BATCH",
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.CROP.SIZE",
    "INPUT.LSJ",
    "INPUT.FIXED_CROP",
)


@dataclass(frozen=True)
class Cost:
    """Of one trial.

    Attributes:
        trial: it.
        steps: that are still to be done.
        done: whether nothing is left to train.
        seconds: that they take; None if no earlier training tells.
        bytes: that it leaves; likewise.
    """

    trial: Trial
    steps: int
    done: bool
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class _Former:
    """A finished training in ``.runs``."""

    likeness: list[object]
    seconds_a_step: float
    bytes: int


def costs(
    params: Params, study: str, variants: Sequence[str] = (), seeds: int | None = None
) -> list[Cost]:
    """What each trial of a study will cost.

    Args:
        params: with the study.
        study: its name.
        variants: these alone.
        seeds: so many instead of the study's own.

    Raises:
        UserError: the study cannot be planned.
    """
    data = PreparedData.load()
    trials = select(plan(with_seeds(params, study, seeds), study, data), variants)
    former = list(_former())
    return [_cost(trial, data, former) for trial in trials]


def describe(found: Sequence[Cost], params: Params, jobs: int | None = None) -> str:
    """Runs, steps, time and disk in plain words, one line a trial and one for all."""
    side_by_side = jobs or fitting_jobs(params, len(found))
    lines = [f"{'run':40}  {'steps':>9}  {'time':>10}"]
    for cost in found:
        time = "done" if cost.done else _time(cost.seconds)
        lines.append(f"{cost.trial.name:40}  {cost.steps:>9,}  {time:>10}")
    todo = [cost for cost in found if not cost.done]
    seconds = [cost.seconds for cost in todo]
    known = [value for value in seconds if value is not None]
    total = _time(sum(known) / max(1, side_by_side)) if len(known) == len(seconds) else _time(None)
    sizes = [cost.bytes for cost in todo if cost.bytes is not None]
    disk = "unknown" if todo and not sizes else f"about {_size(len(todo), sizes)}"
    steps = sum(cost.steps for cost in found)
    lines += [
        "",
        f"{len(found)} runs, {len(found) - len(todo)} of them trained already; {steps:,} steps "
        f"to do, {side_by_side} at a time",
        f"time: {total}, evaluation not counted; disk: {disk}",
    ]
    if len(known) < len(seconds):
        lines.append("No earlier training of this model on this machine tells the speed.")
    return "\n".join(lines)


def _cost(trial: Trial, data: PreparedData, former: Sequence[_Former]) -> Cost:
    folder = runs.RUNS / trial.key
    cfg = resolve(trial.params, data).cfg
    alike = [one for one in former if one.likeness == _likeness(cfg)]
    if engine.TrainResult.load(folder) is not None:
        return Cost(trial, 0, True, 0.0, 0)
    steps = cfg.SOLVER.MAX_ITER - _steps_done(folder)
    if not alike:
        return Cost(trial, steps, False, None, None)
    speed = statistics.median(one.seconds_a_step for one in alike)
    return Cost(trial, steps, False, steps * speed, COPIES * max(one.bytes for one in alike))


def _former() -> Iterable[_Former]:
    for path in sorted(runs.RUNS.glob("*/result.json")):
        try:
            result = engine.TrainResult.load(path.parent)
            plain = yaml.safe_load((path.parent / "config.yaml").read_text())
        except (OSError, ValueError, TypeError, yaml.YAMLError):
            continue  # damaged, or of another version: it tells nothing
        if result is not None and result.steps and isinstance(plain, dict):
            size = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
            yield _Former(_likeness(CfgNode(plain)), result.seconds / result.steps, size)


def _likeness(cfg: CfgNode) -> list[object]:
    found: list[object] = []
    for key in _ALIKE:
        node: object = cfg
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        found.append(list(node) if isinstance(node, (list, tuple)) else node)
    return found


def _steps_done(folder: Path) -> int:
    done = [int(path.stem.split("_")[1]) for path in folder.glob("checkpoints/step_*.pth")]
    return max(done, default=0)


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration(seconds)


def _size(number: int, sizes: Sequence[int]) -> str:
    total = number * statistics.fmean(sizes) if sizes else 0
    unit = "GB" if total >= 1e9 else "MB"
    return f"{math.ceil(total / (1e9 if unit == 'GB' else 1e6)):,} {unit}"
