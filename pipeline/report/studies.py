"""Ablation studies as the page shows them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from condinst.evaluation.verdict import BETTER, SAME, WORSE
from pipeline.charts import Interval, Series, interval_chart, line_chart
from pipeline.compare.sentences import metric_words
from pipeline.report.axis_curve import CurveView, curve_view
from pipeline.report.collect import Findings, Record, Study, Training
from pipeline.report.curves import points, smooth
from pipeline.report.words import duration, several, signed, signed_span, span, typeset

SHOWN = ("segm/AP", "boundary/AP", "segm/AP50", "segm/AP75", "bbox/AP")
_UNBROKEN = 24  # characters that stay on one line
_TONES = {BETTER: "good", WORSE: "bad", SAME: "same"}


@dataclass(frozen=True)
class Comparison:
    """A variant's difference from the baseline in one number.

    Attributes:
        difference: In points of percent.
        low: Lower end of its interval.
        high: Upper end.
        word: Of the verdict.
        sentence: The verdict in words.
        phrase: The word, and what it is limited to.
    """

    difference: float
    low: float
    high: float
    word: str
    sentence: str
    phrase: str

    @property
    def tone(self) -> str:
        """Of its tag: good, bad or neutral."""
        return _TONES.get(self.word, "neutral")

    @property
    def limit(self) -> str:
        """What the word is limited to; empty with several seeds."""
        return self.phrase.removeprefix(self.word).strip()

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
        numbers: The study's metrics to percent.
        spread: Range of the primary metric over the seeds in words, empty for one seed.
        time: Mean training time in words.
        comparison: With the baseline in the primary metric, where there is one.
        others: Likewise in the others that are shown, exploratory.
    """

    name: str
    changes: str
    baseline: bool
    numbers: Mapping[str, float | None]
    spread: str
    time: str
    comparison: Comparison | None
    others: Mapping[str, Comparison]


@dataclass(frozen=True)
class StudyView:
    """A study ready to be shown.

    Attributes:
        metric: The primary one in words.
        columns: Metric to words of all that are shown, the primary first.
        explored: What is to be made of the others.
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
    metric: str
    columns: Mapping[str, str]
    explored: str
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
        Interval(v.name, c.difference, c.low, c.high, c.tone, c.phrase.partition(",")[0])
        for v in variants
        if (c := v.comparison)
    ]
    primary = _primary(study)
    metric = metric_words(*primary.split("/"))
    columns = {name: _head(name) for name in _columns(primary)} | {primary: metric}
    verdict = typeset(study.comparison.get("verdict") or "")
    label = f"{metric} minus {asked.baseline}'s, points, {confidence:.0%} interval"
    if any(c.limit for v in variants if (c := v.comparison)):
        label += ", one training each"
    return StudyView(
        name=study.name,
        title=study.name.replace("_", " ").capitalize(),
        question=asked.question,
        budget=_budget(study),
        common=_changes(_common(study)),
        baseline=asked.baseline,
        answer=_answer(variants, asked.baseline, metric) if rows or not verdict else verdict,
        verdict=verdict,
        metric=metric,
        columns=columns,
        explored=_explored(study.comparison, metric),
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

    primary = _primary(study)
    numbers = {
        key: statistics.fmean(values) if (values := _values(trainings, key)) else stored(key)
        for key in _columns(primary)
    }
    main, common = _values(trainings, primary), _common(study)
    own = {key: value for key, value in study.asked.variants[name].items() if key not in common}
    times = [training.run["seconds"] for training in trainings if training.run.get("seconds")]
    return Variant(
        name=name,
        changes=_changes(own),
        baseline=name == study.asked.baseline,
        numbers=numbers,
        spread=span(min(main), max(main)) if len(main) > 1 else "",
        time=duration(statistics.fmean(times)) if times else "",
        comparison=_comparison(compared, primary),
        others={
            key: found for key in SHOWN if key != primary and (found := _comparison(compared, key))
        },
    )


def _values(trainings: list[Training], key: str) -> list[float]:
    task, _, name = key.partition("/")
    found = [(training.metrics.get(task) or {}).get(name) for training in trainings]
    return [value for value in found if value is not None]


def _primary(study: Study) -> str:
    """What it was judged by; box AP where masks were asked for and there are none."""
    return study.comparison.get("primary", study.asked.primary)


def _head(metric: str) -> str:
    """Of a narrow column: of mask AP50 the number alone."""
    task, number = metric.split("/")
    return number if task == "segm" and number != "AP" else metric_words(task, number)


def _columns(primary: str) -> list[str]:
    return [primary, *(key for key in SHOWN if key != primary)]


def _explored(comparison: Record, metric: str) -> str:
    explored = comparison.get("explored")
    if not explored:
        return ""
    return (
        f"The verdicts are about {metric}, declared beforehand, and hold together over the "
        f"variants. All else is exploratory: of {several(explored['tried'], 'difference')}, "
        f"classes included, {explored['kept']:,} are kept as higher or lower, marked by an arrow; "
        f"about {explored['rate']:.0%} of those may be by chance (Benjamini-Hochberg)."
    )


def _comparison(compared: Record, metric: str) -> Comparison | None:
    task, number = metric.split("/")
    row = (compared.get(task) or {}).get(number)
    if not row:
        return None
    verdict = row["verdict"]
    return Comparison(
        row["difference"], row["low"], row["high"], verdict["word"], typeset(verdict["sentence"]),
        verdict.get("phrase", verdict["word"]),
    )  # fmt: skip


def _budget(study: Study) -> str:
    seeds = len({training.seed for training in study.trainings})
    steps = {training.run.get("steps") for training in study.trainings} - {None}
    parts = [f"{step:,} steps a training" for step in steps if step and len(steps) == 1]
    return ", ".join([*parts, f"{several(seeds, 'seed')} a variant"])


def _answer(variants: list[Variant], baseline: str, metric: str) -> str:
    """The study's outcome in plain words."""
    judged = [(v.name, c) for v in variants if (c := v.comparison)]
    if not judged:
        return "The variants have not been compared yet: python cli.py compare."
    sentences = []
    for phrase in dict.fromkeys(c.phrase for _, c in judged):
        named = [(name, c) for name, c in judged if c.phrase == phrase]
        word, are = named[0][1].word, "is" if len(named) == 1 else "are"
        listed = _list([(name, c.text) for name, c in named], metric)
        alone = phrase.removeprefix(word)
        if word in (BETTER, WORSE):
            sentences.append(f"{listed} {are} {word} than {baseline}{alone}.")
        elif word == SAME:
            sentences.append(f"{listed} and {baseline} are {word}{alone}.")
        else:
            sentences.append(f"{listed} cannot be told apart from {baseline} on these images.")
    return " ".join(sentences)


def _list(named: list[tuple[str, str]], metric: str) -> str:
    """`a (+1.0 points of mask AP), b (+2.0) and c (+3.0)`."""
    words = [
        f"{name} ({text} points of {metric})" if index == 0 else f"{name} ({text})"
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
