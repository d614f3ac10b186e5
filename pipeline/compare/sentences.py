"""What a compared study says, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condinst.evaluation.verdict import BETTER, ONE_TRAINING, OPEN, SAME, WORSE, way_to_tell
from condinst.metrics import PRIMARY, WORDS

NO_MASKS = "Without masks in the data or the detections mask AP is undefined: box AP is compared."
NEAR_ZERO = 1.0  # percent


def primary_of(study: Mapping[str, Any]) -> tuple[str, str]:
    """Task and number that the verdicts are about; a former version knew mask AP alone."""
    task, number = study.get("primary", PRIMARY).split("/")
    return task, number


def metric_words(task: str, number: str) -> str:
    """`mask AP`."""
    return f"{WORDS[task]} {number}"


def primary_difference(
    study: Mapping[str, Any], variant: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """A variant's difference in the primary metric; None for the baseline and what lacks it."""
    task, number = primary_of(study)
    return variant.get(task, {}).get(number)


def value_of(variant: Mapping[str, Any], task: str, number: str) -> float | None:
    """A variant's score; a former version knew no boundaries."""
    return variant["metrics"].get(task, {}).get(number)


def phrase(one: Mapping[str, Any]) -> str:
    """A difference's verdict, with what it is limited to."""
    return one["verdict"].get("phrase", one["verdict"]["word"])


def seeds_of(study: Mapping[str, Any]) -> int:
    """Seeds that every variant has."""
    seeds = [len(variant["seeds"]) for variant in study["variants"].values()]
    return min((number for number in seeds if number), default=0)


def study_verdict(study: Mapping[str, Any]) -> str:
    """What the study says of its primary metric."""
    base, words = study["baseline"], metric_words(*primary_of(study))
    without = study.get("declared", study.get("primary")) != study.get("primary")
    sentences = [NO_MASKS] if without else []
    for name, variant in study["variants"].items():
        if name == base:
            continue
        one = primary_difference(study, variant)
        if one is not None:
            sentences.append(_sentence(name, one, study))
        elif variant.get("bbox"):
            sentences.append(f"{name} and {base} have no {words} to compare.")
        else:
            sentences.append(f"{name} was not evaluated on the baseline's seeds.")
    if len(study["variants"]) < 2:
        return f"{base} stands alone: there is nothing to compare."
    judged = sum(
        primary_difference(study, variant) is not None for variant in study["variants"].values()
    )
    if judged > 1 and "level" in study:
        sentences.append(f"The {judged} intervals hold together, so none is a pick of many.")
    if seeds_of(study) < 2:
        sentences.append(
            "One training each: the intervals cover other images, not other seeds of training."
        )
    scores = {n: value_of(v, *primary_of(study)) for n, v in study["variants"].items()}
    low = [name for name, score in scores.items() if score is not None and score < NEAR_ZERO]
    if low:
        sentences.append(
            f"{words[:1].upper()}{words[1:]} is next to zero for {', '.join(low)}: train longer."
        )
    return " ".join(sentences)


def needed(one: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """What this design could have told, and what would tell a difference of the margin."""
    verdict = one["verdict"]
    if verdict["word"] != OPEN or "margin" not in study:
        return ""
    more = way_to_tell(verdict["images_needed"], verdict["seeds_needed"], one["seeds"])
    return (
        f"; a difference of {verdict['smallest']:.1f} would have been told four times in five, "
        f"one of {study['margin']:g} {more}"
    )


def _sentence(name: str, one: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    base, word = study["baseline"], one["verdict"]["word"]
    span = (
        f"{one['difference']:+.1f} points of {metric_words(*primary_of(study))}, interval "
        f"{one['low']:+.1f} to {one['high']:+.1f}"
    )
    alone = f" {ONE_TRAINING}" if one.get("seeds", 1) < 2 else ""
    if word in (BETTER, WORSE):
        return f"{name} is {word} than {base}{alone} ({span})."
    if word == SAME:
        return f"{name} and {base} are {word}{alone} ({span}, within {study['margin']:g})."
    return (
        f"{name} and {base} are not told apart on {study['images']:,} images "
        f"({span}){needed(one, study)}."
    )
