"""A comparison as people read it: terminal, Markdown, LaTeX, CSV, and a sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from condinst.evaluation.losses import KINDS
from condinst.evaluation.verdict import BETTER, OPEN, SAME, WORSE
from condinst.metrics import NUMBERS, WORDS
from pipeline.compare.judging import UNCLEAR
from pipeline.compare.sentences import (
    metric_words,
    needed,
    phrase,
    primary_difference,
    primary_of,
    seeds_of,
    value_of,
)
from pipeline.console import terminal

LOST = "Points of mask AP50 that each kind of error costs (TIDE)"
COLUMNS = (("segm", "AP"), ("boundary", "AP"), ("segm", "AP50"), ("segm", "AP75"), ("bbox", "AP"))
_COLOURS = {BETTER: "green", WORSE: "red", SAME: "cyan", OPEN: "yellow"}
_LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def flat_metrics(content: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and differences of mask and box AP, for ``dvc metrics``."""
    flat: dict[str, Any] = {}
    for study_name, study in content["studies"].items():
        rows: dict[str, Any] = {}
        for name, variant in study["variants"].items():
            row = rows[name] = {f"{task}/AP": value_of(variant, task, "AP") for task in WORDS}
            for task in WORDS:
                one = variant.get(task, {}).get("AP")
                if one:
                    row |= {f"{task}/AP_{key}": one[key] for key in ("difference", "low", "high")}
        flat[study_name] = rows
    return flat


def summary(content: Mapping[str, Any]) -> str:
    """One paragraph a study."""
    return "".join(f"{n}: {study['verdict']}\n" for n, study in content["studies"].items())


def show(content: Mapping[str, Any], console: Console | None = None) -> None:
    """Print one table a study, and its verdict."""
    console = console or terminal()
    for name, study in content["studies"].items():
        table = Table(title=_title(name, study), caption=_caption(content, study))
        table.add_column("run", style="bold")
        for column in _columns(study):
            table.add_column(metric_words(*column), justify="right")
        table.add_column(f"{metric_words(*primary_of(study))} against the first", justify="right")
        table.add_column("verdict")
        for column in _more_columns(study):
            table.add_column(column, justify="right")
        for label, variant in study["variants"].items():
            one = primary_difference(study, variant)
            colour = _COLOURS.get(one["verdict"]["word"], "default") if one else "default"
            table.add_row(
                label,
                *[_score(variant, *column) for column in _columns(study)],
                _difference(one) if one else _no_difference(label, study),
                Text(phrase(one) if one else "", colour),
                *_more_cells(label, study),
            )
        console.print(table)
        console.print(study["verdict"])
        lost = list(_lost_rows(study))
        if lost:
            table = Table("run", title=LOST)
            for kind in KINDS.values():
                table.add_column(kind, justify="right")
            for row in lost:
                table.add_row(*row)
            console.print(table)


def markdown(content: Mapping[str, Any]) -> str:
    """The whole comparison as Markdown."""
    parts = ["# Comparison", ""]
    for name, study in content["studies"].items():
        parts += [f"## {_title(name, study)}", "", study["verdict"], ""]
        head = ["run", *[metric_words(*column) for column in _columns(study)]]
        head += [f"{metric_words(*primary_of(study))} difference", "verdict"]
        head += _more_columns(study)
        parts += _markdown_table(head, _rows(study))
        parts += ["", f"*{_caption(content, study)}*", ""]
        lost = list(_lost_rows(study))
        if lost:
            parts += [f"### {LOST}", "", *_markdown_table(["run", *KINDS.values()], iter(lost)), ""]
        parts += ["### All numbers", "", _exploratory(study), ""]
        parts += _markdown_table(
            ["run", "number", "baseline", "run's", "difference", "verdict"],
            _difference_rows(study),
        )
        parts += ["", *_class_section(study)]
    return "\n".join(parts) + "\n"


def latex(content: Mapping[str, Any]) -> str:
    """One `booktabs` table a study."""
    parts = []
    for name, study in content["studies"].items():
        more = _more_columns(study)
        head = ["run", *[metric_words(*column) for column in _columns(study)]]
        head += ["difference", "verdict", *more]
        parts += [
            r"\begin{table}",
            rf"\caption{{{_escape(_title(name, study))} {_escape(_caption(content, study))}}}",
            rf"\label{{tab:{''.join(c for c in name if c.isalnum())}}}",
            r"\begin{tabular}{l" + "r" * len(_columns(study)) + "rl" + "r" * len(more) + "}",
            r"\toprule",
            " & ".join(map(_escape, head)) + r" \\",
            r"\midrule",
        ]
        parts += [" & ".join(map(_escape, row)) + r" \\" for row in _rows(study)]
        parts += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(parts)


def csv_table(content: Mapping[str, Any]) -> str:
    """All numbers of all variants, one a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = ("difference", "low", "high", "std_error", "seed_std", "p_value", "exploratory")
    keys += ("verdict", "smallest", "images_needed", "seeds_needed")
    writer.writerow(["study", "variant", "seeds", "task", "number", "value", "baseline", *keys])
    for name, study in content["studies"].items():
        for label, variant in study["variants"].items():
            for task in WORDS:
                for number in NUMBERS:
                    one = variant.get(task, {}).get(number, {})
                    verdict = one.get("verdict", {})
                    one = {**one, **verdict, "verdict": verdict.get("phrase", verdict.get("word"))}
                    value = value_of(variant, task, number)
                    row = [name, label, len(variant["seeds"]), task, number, value]
                    writer.writerow([*row, one.get("a"), *[one.get(key) for key in keys]])
    return text.getvalue()


def _title(name: str, study: Mapping[str, Any]) -> str:
    return f"{name}: {study['question']}" if study["question"] else name


def _caption(content: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    seeds = seeds_of(study)
    trained = f"{seeds} seeds each, their variance included" if seeds > 1 else "one seed each"
    together = len(study["variants"]) > 2 and "level" in study
    return (
        f"{content['confidence']:.0%} {'simultaneous ' if together else ''}intervals by paired "
        f"bootstrap over {study['images']:,} "
        f"images, {content['draws']:,} draws; {trained}; differences from {study['baseline']}"
        f"{_about_published(study)}{_about_annotation(content, study)}"
    )


def _about_annotation(content: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    if not _annotated(study):
        return ""
    mask, box = (f"{content[key]:g} s" for key in ("mask_seconds", "box_seconds"))
    return f"; annotation: {mask} for an object's mask, {box} for its box alone"


def _about_published(study: Mapping[str, Any]) -> str:
    published = study.get("published")
    if not published:
        return ""
    data = f"on {published['data']}" + (", other data than here" if published["other_data"] else "")
    return f"; published: mask AP {data}, by {published['from']}"


def _more_columns(study: Mapping[str, Any]) -> list[str]:
    """Column heads that only some studies have."""
    heads = []
    if published := study.get("published"):
        heads.append("published (other data)" if published["other_data"] else "published")
    return [*heads, "masks drawn", "annotation, hours"] if _annotated(study) else heads


def _more_cells(name: str, study: Mapping[str, Any]) -> list[str]:
    published = study.get("published")
    cells = [_number(published["values"].get(name))] if published else []
    if _annotated(study):
        cost = study["variants"][name].get("annotation")
        cells += [f"{cost['masks']:,}", f"{cost['hours']:,.1f}"] if cost else ["-", "-"]
    return cells


def _annotated(study: Mapping[str, Any]) -> bool:
    return any(variant.get("annotation") for variant in study["variants"].values())


def _rows(study: Mapping[str, Any]) -> Iterator[list[str]]:
    """One row a variant: the columns, the difference in the primary metric, the verdict."""
    for name, variant in study["variants"].items():
        one = primary_difference(study, variant)
        yield [
            name,
            *[_score(variant, *column) for column in _columns(study)],
            _difference(one) if one else _no_difference(name, study),
            phrase(one) if one else "",
            *_more_cells(name, study),
        ]


def _lost_rows(study: Mapping[str, Any]) -> Iterator[list[str]]:
    """One row a variant: what each kind of error costs."""
    for name, variant in study["variants"].items():
        if variant.get("lost"):
            yield [name, *[_number(variant["lost"][kind]) for kind in KINDS]]


def _difference_rows(study: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, variant in study["variants"].items():
        for task, word in WORDS.items():
            for number, one in variant.get(task, {}).items():
                scores = [_number(one["a"]), _number(one["b"]), _difference(one)]
                verdict = phrase(one) + needed(one, study)
                yield [name, f"{word} {number}", *scores, verdict]


def _class_section(study: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, variant in study["variants"].items():
        for category, numbers in variant.get("per_class", {}).get("segm", {}).items():
            one = numbers.get("AP")
            if one and one["verdict"]["word"] not in (UNCLEAR, OPEN):
                line = [name, category, _number(one["a"]), _number(one["b"])]
                rows.append([*line, _difference(one), one["verdict"]["word"]])
    if not rows:
        return []
    head = ["run", "class", "baseline", "run's", "mask AP difference", "exploratory"]
    return ["### Classes", "", *_markdown_table(head, iter(rows)), ""]


def _exploratory(study: Mapping[str, Any]) -> str:
    """What is to be made of everything but the primary metric."""
    explored = study.get("explored")
    if not explored:
        return ""
    return (
        f"The verdicts are about {metric_words(*primary_of(study))}, declared beforehand. All "
        f"else is exploratory: of {explored['tried']:,} differences, classes included, "
        f"{explored['kept']:,} are kept as higher or lower, of which about "
        f"{explored['rate']:.0%} may be by chance (Benjamini-Hochberg); their intervals are of "
        "one comparison each."
    )


def _columns(study: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Those that all tables have, the primary metric first."""
    first = primary_of(study)
    return (first, *(column for column in COLUMNS if column != first))


def _markdown_table(head: list[str], rows: Iterator[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]


def _score(variant: Mapping[str, Any], task: str, number: str) -> str:
    return _number(value_of(variant, task, number))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _difference(one: Mapping[str, Any]) -> str:
    return f"{one['difference']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})"


def _no_difference(name: str, study: Mapping[str, Any]) -> str:
    if name == study["baseline"]:
        return "baseline"
    return "undefined" if "bbox" in study["variants"][name] else "not evaluated"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
