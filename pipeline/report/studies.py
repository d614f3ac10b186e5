"""Ablation studies as the page shows them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.report.axis_curve import CurveView, curve_view
from pipeline.report.charts import Interval, Series, interval_chart, line_chart
from pipeline.report.collect import Findings, Record, Study, Training
from pipeline.report.curves import points, smooth
from pipeline.report.words import duration, several, signed, signed_span, span, typeset

SHOWN = ("segm/AP", "boundary/AP", "segm/AP50", "segm/AP75", "bbox/AP")
MAIN = "segm/AP"
_UNBROKEN = 24  # characters that stay on one line
_TONES = {"better": "good", "worse": "bad"}


@dataclass(frozen=True)
class Comparison:
    """A variant's difference from the baseline in one number.

    Attributes:
        difference: In points of percent.
        low: Lower end of its interval.
        high: Upper end.
        word: `better`, `worse` or `not told apart`.
        sentence: The verdict in words.
    """

    difference: float
    low: float
    high: float
    word: str
    sentence: str

    @property
    def tone(self) -> str:
        """Of its tag: good, bad or neutral."""
        return _TONES.get(self.word, "neutral")

    @property
    def text(self) -> str:
        """The difference with its sign."""
        return signed(self.difference)

    @property
    def range(self) -> str:
        """Its interval."""
        return signed_span(self.low, self.high)


@dataclass(frozen=True)
class Variant:
    """A row of a study's table; numbers are means over the seeds.

    Attributes:
        name: Of the variant.
        changes: What it changes, in words.
        baseline: Whether the others are compared with it.
        numbers: `SHOWN` to percent.
        spread: Range of the main number over the seeds in words, empty for one seed.
        time: Mean training time in words.
        comparison: With the baseline in mask AP, where there is one.
        boundary: Likewise in boundary AP.
        box: Likewise in box AP.
    """

    name: str
    changes: str
    baseline: bool
    numbers: Mapping[str, float | None]
    spread: str
    time: str
    comparison: Comparison | None
    boundary: Comparison | None
    box: Comparison | None


@dataclass(frozen=True)
class StudyView:
    """A study ready to be shown.

    Attributes:
        common: What all variants change alike, in words; empty where there is nothing.
        published: What others published, who and on which data; empty where nobody did.
        curve: Over the one number that the study varies, where it does.
        curves: Mask loss over the steps.
    """

    name: str
    title: str
    question: str
    budget: str
    common: str
    baseline: str
    answer: str
    verdict: str
    variants: list[Variant]
    published: str
    chart: Markup
    curve: CurveView | None
    curves: Markup


def study_views(found: Findings) -> list[StudyView]:
    """All studies that have results."""
    return [_view(study, found.comparison) for study in found.studies]


def _view(study: Study, comparison: Record) -> StudyView:
    asked, confidence = study.asked, comparison.get("confidence", 0.95)
    compared: Record = study.comparison.get("variants") or {}
    variants = [
        _variant(name, study, compared.get(name) or {})
        for name in asked.variants
        if any(training.variant == name for training in study.trainings)
    ]
    rows = [
        Interval(v.name, c.difference, c.low, c.high, c.tone, c.word)
        for v in variants
        if (c := v.comparison)
    ]
    verdict = typeset(study.comparison.get("verdict") or "")
    label = f"mask AP minus {asked.baseline}'s, points, {confidence:.0%} interval"
    return StudyView(
        name=study.name,
        title=study.name.replace("_", " ").capitalize(),
        question=asked.question,
        budget=_budget(study),
        common=_changes(_common(study)),
        baseline=asked.baseline,
        answer=_answer(variants, asked.baseline) if rows or not verdict else verdict,
        verdict=verdict,
        variants=variants,
        published=_published(study),
        chart=interval_chart(rows, x_label=label, zero=f"as {asked.baseline}"),
        curve=curve_view(study.comparison, comparison),
        curves=_curves(study),
    )


def _common(study: Study) -> dict[str, Any]:
    """What all variants change, and to the same value."""
    first, *others = study.asked.variants.values()
    return {
        key: value
        for key, value in first.items()
        if others and all(key in one and one[key] == value for one in others)
    }


def _changes(changes: Mapping[str, Any]) -> str:
    pairs = [f"{key.rpartition('.')[2]} = {value}" for key, value in changes.items()]
    return ", ".join(
        pair.replace(" ", "\N{NO-BREAK SPACE}") if len(pair) <= _UNBROKEN else pair
        for pair in pairs
    )


def _published(study: Study) -> str:
    found = study.comparison.get("published")
    if not found:
        return ""
    other = ", other data than here" if found["other_data"] else ""
    values = ", ".join(f"{name} {value:.1f}" for name, value in found["values"].items())
    return f"Published, mask AP on {found['data']}{other}: {values} ({found['from']})."


def _variant(name: str, study: Study, compared: Record) -> Variant:
    trainings = [training for training in study.trainings if training.variant == name]

    def stored(key: str) -> float | None:
        """What `compare` measured of evaluations that did not do so themselves."""
        task, _, number = key.partition("/")
        return ((compared.get("metrics") or {}).get(task) or {}).get(number)

    numbers = {
        key: statistics.fmean(values) if (values := _values(trainings, key)) else stored(key)
        for key in SHOWN
    }
    main, common = _values(trainings, MAIN), _common(study)
    own = {key: value for key, value in study.asked.variants[name].items() if key not in common}
    times = [training.run["seconds"] for training in trainings if training.run.get("seconds")]
    return Variant(
        name=name,
        changes=_changes(own),
        baseline=name == study.asked.baseline,
        numbers=numbers,
        spread=span(min(main), max(main)) if len(main) > 1 else "",
        time=duration(statistics.fmean(times)) if times else "",
        comparison=_comparison(compared, "segm"),
        boundary=_comparison(compared, "boundary"),
        box=_comparison(compared, "bbox"),
    )


def _values(trainings: list[Training], key: str) -> list[float]:
    task, _, name = key.partition("/")
    found = [(training.metrics.get(task) or {}).get(name) for training in trainings]
    return [value for value in found if value is not None]


def _comparison(compared: Record, task: str) -> Comparison | None:
    row = (compared.get(task) or {}).get("AP")
    if not row:
        return None
    verdict = row["verdict"]
    return Comparison(
        row["difference"], row["low"], row["high"], verdict["word"], typeset(verdict["sentence"])
    )


def _budget(study: Study) -> str:
    seeds = len({training.seed for training in study.trainings})
    steps = {training.run.get("steps") for training in study.trainings} - {None}
    parts = [f"{step:,} steps a training" for step in steps if step and len(steps) == 1]
    return ", ".join([*parts, f"{several(seeds, 'seed')} a variant"])


def _answer(variants: list[Variant], baseline: str) -> str:
    """The study's outcome in plain words."""
    judged = [(v.name, c) for v in variants if (c := v.comparison)]
    if not judged:
        return "The variants have not been compared yet: python cli.py compare."
    sentences = []
    for word, verb in (("better", "better masks than"), ("worse", "worse masks than")):
        named = [(name, c.text) for name, c in judged if c.word == word]
        if named:
            gives = "gives" if len(named) == 1 else "give"
            sentences.append(f"{_list(named)} {gives} {verb} {baseline}.")
    named = [(name, c.text) for name, c in judged if c.word not in _TONES]
    if named:
        sentences.append(f"{_list(named)} cannot be told apart from {baseline} on these images.")
    return " ".join(sentences)


def _list(named: list[tuple[str, str]]) -> str:
    """`a (+1.0 points of mask AP), b (+2.0) and c (+3.0)`."""
    words = [
        f"{name} ({text} points of mask AP)" if index == 0 else f"{name} ({text})"
        for index, (name, text) in enumerate(named)
    ]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _curves(study: Study) -> Markup:
    """Mask loss over the steps, one line a variant (its first seed)."""
    lines, seen = [], set()
    for training in study.trainings:
        if training.variant not in seen:
            seen.add(training.variant)
            values = smooth(points(training.curve, "loss_mask"))
            lines.append(Series(training.variant, values, len(seen)))
    return line_chart(lines, x_label="step", y_label="mask loss", height=300)
