"""Whether published figures still follow from the detections that lie beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.scores import NUMBERS
from condinst.evaluation.verdict import MARGIN
from condinst.metrics import PRIMARY
from pipeline import runs
from pipeline.compare.evaluated import EvaluatedRun, Sampler
from pipeline.compare.stage import compare_studies
from pipeline.layout import STUDIES
from pipeline.params import Ablation, Compare

DIGITS = 1e-9  # percent; measuring the same twice gives the same
_RULES = tuple(field.name for field in dataclasses.fields(Compare))
_FORMER: dict[str, Any] = {
    "margin": MARGIN,
    "family": "study",
}  # what a former version's comparison lacks
_ROOTS = {"report": ("evaluate", "ablate", "compare")}


@dataclasses.dataclass(frozen=True)
class Check:
    """One table that was computed again.

    Attributes:
        name: of the table.
        figures: how many were compared.
        wrong: those that do not hold, in words.
        run: id of the MLflow run that it belongs to, hash of its data, evaluator.
    """

    name: str
    figures: int
    wrong: tuple[str, ...]
    run: str


def verify(place: Path) -> list[Check]:
    """Compute the tables below a folder again from stored detections.

    Args:
        place: folder or file of the report (then all that it shows is checked), of an evaluation,
            a study or a comparison.

    Returns:
        One check a table, each evaluation and each compared study.

    Raises:
        UserError: nothing there can be checked, or its ground truth is gone.
    """
    folder = place.parent if place.is_file() else place
    if not folder.is_dir():
        raise UserError(
            f"{place} is not there; give a report, an evaluation, a study or outputs/compare"
        )
    names = _ROOTS.get(folder.name)
    roots = [folder.parent / name for name in names] if names else [folder]
    checks = [check for root in roots for check in _checks(root)]
    if not checks:
        raise UserError(
            f"{place} holds no table that can be checked: no evaluation.json and no "
            "comparison.json below it; run `python cli.py evaluate` or `compare` first"
        )
    return checks


def _checks(root: Path) -> Iterator[Check]:
    for path in sorted(root.rglob("evaluation.json")):
        yield _evaluation(EvaluatedRun.load(path.parent, str(path.parent)))
    path = root / "comparison.json"
    if path.is_file():
        yield from _comparison(runs.read_json(path, "compare"), root)


def _evaluation(found: EvaluatedRun) -> Check:
    about = found.about
    tasks = tuple(found.metrics)
    scores = evaluate_coco(
        found.annotations(),
        found.folder / "detections.json",
        tasks=tasks,
        backend=str(about["evaluator"]),
        max_dets=int(about.get("max_detections", 100)),
    )
    stored = {f"{task} {name}": found.metrics[task][name] for task in tasks for name in NUMBERS}
    fresh = {f"{task} {name}": scores.metrics[task][name] for task in tasks for name in NUMBERS}
    return Check(found.name, len(stored), tuple(_wrong(stored, fresh)), _origin(about))


def _comparison(content: Mapping[str, Any], root: Path) -> Iterator[Check]:
    """Each study computed again with the same draws, from the detections of ``outputs/ablate``.

    Of a comparison of a former version, which judged otherwise, the scores are checked.
    """
    judged = "margin" in content
    known: dict[str, Any] = {key: content[key] for key in _RULES if key in content}
    rules = Compare(**_FORMER | known)
    asked = {}
    for name, study in content["studies"].items():
        folder = root.parent / STUDIES.name / name
        if not folder.is_dir():
            raise UserError(f"{folder}, which {root} compares, is not there any more")
        seeds = sorted({seed for one in study["variants"].values() for seed in one["seeds"]})
        asked[folder] = Ablation(
            question=study["question"], baseline=study["baseline"], seeds=tuple(seeds),
            steps=study.get("steps"), primary=study.get("declared", PRIMARY),
            variants={label: one["changes"] for label, one in study["variants"].items()},
        )  # fmt: skip
    again = compare_studies(asked, Sampler(rules.draws, rules.seed), rules)
    for name, study in content["studies"].items():
        tasks = {task for one in study["variants"].values() for task in one["metrics"]}
        stored, fresh = (_figures(one, tasks, judged) for one in (study, again[name]))
        origin = f"data {study.get('data_hash')}, {study.get('evaluator')}"
        yield Check(f"{root}: {name}", len(stored), tuple(_wrong(stored, fresh)), origin)


def _figures(study: Mapping[str, Any], tasks: Collection[str], judged: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, variant in study["variants"].items():
        for task in tasks:
            values = variant["metrics"].get(task, {})
            found |= {f"{label} {task} {k}": v for k, v in values.items()}
            if judged:
                level = variant.get("levels", {}).get(task, {}).get("AP", {})
                found |= {f"{label} {task} AP's {k}": v for k, v in level.items()}
            level = variant.get("levels", {}).get(task, {}).get("AP", {})
            found |= {f"{label} {task} AP's {k}": v for k, v in level.items()}
            found |= {f"{label} lost to {k}": v for k, v in variant.get("lost", {}).items()}
            for number, one in variant.get(task, {}).items():
                for key in ("a", "b", "difference", *(("low", "high") if judged else ())):
                    found[f"{label} {task} {number} {key}"] = one[key]
                if judged:
                    found[f"{label} {task} {number} verdict"] = one["verdict"]["word"]
    return found


def _wrong(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*stored, *fresh]):
        before, after = stored.get(key), fresh.get(key)
        close = (
            isinstance(before, (int, float))
            and isinstance(after, (int, float))
            and abs(before - after) <= DIGITS
        )
        if not close and before != after:
            yield f"{key} is {before}, computed again {after}"


def _origin(about: Mapping[str, Any]) -> str:
    evaluator = f"{about.get('evaluator')} {about.get('evaluator_version')}"
    return f"run {about.get('run_id')}, data {about.get('data_hash')}, {evaluator}"


def describe(checks: Sequence[Check]) -> str:
    """One line a table, and what does not hold."""
    lines = []
    for check in checks:
        state = "does NOT hold" if check.wrong else "holds"
        lines.append(f"{check.name}: {check.figures} figures, {state} ({check.run})")
        lines += [f"  {line}" for line in check.wrong[:10]]
        if len(check.wrong) > 10:
            lines.append(f"  and {len(check.wrong) - 10} more")
    return "\n".join(lines)
