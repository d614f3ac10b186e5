"""From measured pairs to verdicts: one primary metric a study, corrected; all else exploratory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from condinst.errors import UserError
from condinst.evaluation.bootstrap import EVERY
from condinst.evaluation.differences import Difference, Pair, difference
from condinst.evaluation.multiple import discoveries, joint_level, pool_seeds
from condinst.metrics import MASK_TASKS, METRICS, PRIMARY
from pipeline.params import Compare
from pipeline.params.schema import nearest

CLASS_NUMBERS = ("AP", "AP50", "AP75", "AR100")
FALSE_DISCOVERIES = 0.05
UNCLEAR = "unclear"


@dataclass(frozen=True)
class Measured:
    """A study before anything is judged.

    Attributes:
        about: What ``comparison.json`` holds of it but for differences and verdicts.
        declared: Its primary metric, such as ``segm/AP``.
        pairs: Variant to task to what it and the baseline have both.
    """

    about: dict[str, Any]
    declared: str
    pairs: Mapping[str, Mapping[str, Sequence[Pair]]] = field(repr=False)

    @property
    def primary(self) -> str:
        """The metric that its verdicts are about."""
        return in_force(self.declared, self.pairs)

    def primary_pairs(self) -> dict[str, Pair]:
        """Variant to its pair in the primary metric, where it has one."""
        task, number = self.primary.split("/")
        return {
            name: pair
            for name, tasks in self.pairs.items()
            for pair in tasks.get(task, ())
            if (pair.category, pair.metric) == (EVERY, number)
        }


def in_force(declared: str, pairs: Mapping[str, Mapping[str, Sequence[Pair]]]) -> str:
    """The declared metric, or that of boxes where masks are asked for and nobody has any."""
    task, number = declared.split("/")
    scored = {name for tasks in pairs.values() for name, found in tasks.items() if found}
    return f"bbox/{number}" if task in MASK_TASKS and scored == {"bbox"} else declared


def check_primary(primary: str, key: str) -> None:
    """Raise UserError unless it is a metric."""
    if primary not in METRICS:
        near = nearest(primary, METRICS)
        raise UserError(
            f"{key} is {primary}, must be one of the metrics that evaluate writes, such as "
            f"{PRIMARY}, boundary/AP or bbox/AP{near}"
        )


def judge_studies(studies: Mapping[str, Measured], rules: Compare) -> dict[str, dict[str, Any]]:
    """Judges studies, each as one family of comparisons, or all as one.

    Args:
        studies: By name.
        rules: Confidence, margin and family.

    Returns:
        Name to what ``comparison.json`` holds of it, its verdict in words left out.
    """
    studies = {name: replace(one, pairs=_pooled(one.pairs)) for name, one in studies.items()}
    together = joint_level(
        [pair for one in studies.values() for pair in one.primary_pairs().values()],
        rules.confidence,
    )
    judged = {}
    for name, study in studies.items():
        level = together
        if rules.family == "study":
            level = joint_level(list(study.primary_pairs().values()), rules.confidence)
        judged[name] = _judge(study, rules, level)
    return judged


def _pooled(
    pairs: Mapping[str, Mapping[str, Sequence[Pair]]],
) -> dict[str, dict[str, list[Pair]]]:
    """The same pairs; in each score, all variants have one variance for the luck of training."""
    found: dict[str, dict[str, list[Pair]]] = {name: {} for name in pairs}
    for task in dict.fromkeys(task for tasks in pairs.values() for task in tasks):
        groups: dict[tuple[str, str], list[tuple[str, Pair]]] = {}
        for name, tasks in pairs.items():
            found[name] |= {task: []} if task in tasks else {}
            for pair in tasks.get(task, ()):
                groups.setdefault((pair.category, pair.metric), []).append((name, pair))
        for group in groups.values():
            for (name, _), pair in zip(group, pool_seeds([p for _, p in group]), strict=True):
                found[name][task].append(pair)
    return found


def _judge(study: Measured, rules: Compare, level: float) -> dict[str, Any]:
    variants = {name: dict(row) for name, row in study.about["variants"].items()}
    explored: list[dict[str, Any]] = []
    for name, tasks in study.pairs.items():
        row = variants[name]
        row["per_class"] = {}
        for task, pairs in tasks.items():
            row[task], classes = {}, row["per_class"].setdefault(task, {})
            for pair in pairs:
                first = (f"{task}/{pair.metric}", pair.category) == (study.primary, EVERY)
                if pair.category != EVERY and pair.metric not in CLASS_NUMBERS:
                    continue
                one = difference(pair, rules.confidence, level if first else None, rules.margin)
                plain = _primary(one) if first else _exploratory(one)
                if not first:
                    explored.append(plain)
                place = row[task] if pair.category == EVERY else classes.setdefault(
                    pair.category, {}
                )  # fmt: skip
                place[pair.metric] = plain
    _mark(explored)
    kept = sum(one["verdict"]["word"] != UNCLEAR for one in explored)
    return {
        **study.about,
        "primary": study.primary,
        "declared": study.declared,
        "level": level,
        "margin": rules.margin,
        "explored": {"tried": len(explored), "kept": kept, "rate": FALSE_DISCOVERIES},
        "variants": variants,
    }


def _mark(explored: Sequence[dict[str, Any]]) -> None:
    """Gives every exploratory difference its word: kept among them all, or unclear."""
    kept = discoveries([one["p_value"] for one in explored], FALSE_DISCOVERIES)
    for one, holds in zip(explored, kept, strict=True):
        word = UNCLEAR
        if holds:
            word = "higher" if one["difference"] > 0 else "lower"
        span = f"{one['difference']:+.1f} points, interval {one['low']:+.1f} to {one['high']:+.1f}"
        one["verdict"] = {
            "word": word,
            "phrase": word,
            "sentence": f"exploratory, {word}: {span}",
        }


def _primary(one: Difference) -> dict[str, Any]:
    return {**_plain(one), "verdict": dataclasses.asdict(one.verdict)}


def _exploratory(one: Difference) -> dict[str, Any]:
    return {**_plain(one), "exploratory": True}


def _plain(one: Difference) -> dict[str, Any]:
    kept = ("a", "b", "difference", "low", "high", "std_error", "seeds", "seed_std", "p_value")
    return {key: getattr(one, key) for key in kept}
