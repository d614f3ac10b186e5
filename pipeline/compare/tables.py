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
from condinst.metrics import NUMBERS, WORDS
from pipeline.console import terminal

LOST = "Points of mask AP50 that each kind of error costs (TIDE)"
NO_MASKS = "Without masks in the data or the detections mask AP is undefined: box AP is compared."
NEAR_ZERO = 1.0  # percent
COLUMNS = (("segm", "AP"), ("boundary", "AP"), ("segm", "AP50"), ("segm", "AP75"), ("bbox", "AP"))
_COLOURS = {"better": "green", "worse": "red", "not told apart": "yellow"}
_LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def study_verdict(study: Mapping[str, Any]) -> str:
    """What the study says of mask AP, in plain sentences; of box AP where there are no masks."""
    base, task = study["baseline"], _judged(study)
    sentences = [NO_MASKS] if task == "bbox" else []
    for name, variant in study["variants"].items():
        if name == base:
            continue
        one = variant.get(task, {}).get("AP")
        if one is None:
            sentences.append(f"{name} was not evaluated on the baseline's seeds.")
        elif one["verdict"]["word"] == "not told apart":
            sentences.append(
                f"{name} and {base} are not told apart on {study['images']:,} images "
                f"({_span(one, task)}){_needed(one)}."
            )
        else:
            sentences.append(
                f"{name} is {one['verdict']['word']} than {base} ({_span(one, task)})."
            )
    if not sentences:
        return f"{base} stands alone: there is nothing to compare."
    if _seeds(study) < 2:
        sentences.append(
            "One training each: the intervals cover other images, not other seeds of training."
        )
    scores = {n: _value(v, task, "AP") for n, v in study["variants"].items()}
    low = [name for name, score in scores.items() if score is not None and score < NEAR_ZERO]
    if low:
        word = WORDS[task].capitalize()
        sentences.append(f"{word} AP is next to zero for {', '.join(low)}: train longer.")
    return " ".join(sentences)


def _judged(study: Mapping[str, Any]) -> str:
    """The task of the verdict: masks, unless box AP alone is defined."""
    scored = {
        task: any(_value(one, task, "AP") is not None for one in study["variants"].values())
        for task in WORDS
    }
    return "bbox" if scored["bbox"] and not scored["segm"] else "segm"


def flat_metrics(content: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and differences of mask and box AP, for ``dvc metrics``."""
    flat: dict[str, Any] = {}
    for study_name, study in content["studies"].items():
        rows: dict[str, Any] = {}
        for name, variant in study["variants"].items():
            row = rows[name] = {f"{task}/AP": _value(variant, task, "AP") for task in WORDS}
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
        for task, number in COLUMNS:
            table.add_column(f"{WORDS[task]} {number}", justify="right")
        table.add_column("mask AP against the first", justify="right")
        table.add_column("verdict")
        for column in _more_columns(study):
            table.add_column(column, justify="right")
        for label, variant in study["variants"].items():
            one = variant.get("segm", {}).get("AP")
            word = one["verdict"]["word"] if one else ""
            colour = _COLOURS.get(word, "default")
            table.add_row(
                label,
                *[_score(variant, task, number) for task, number in COLUMNS],
                _difference(one) if one else _no_difference(label, study),
                Text(word, colour),
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
        head = ["run", *[f"{WORDS[t]} {n}" for t, n in COLUMNS], "mask AP difference", "verdict"]
        head += _more_columns(study)
        parts += _markdown_table(head, _rows(study))
        parts += ["", f"*{_caption(content, study)}*", ""]
        lost = list(_lost_rows(study))
        if lost:
            parts += [f"### {LOST}", "", *_markdown_table(["run", *KINDS.values()], iter(lost)), ""]
        parts += ["### All numbers", ""]
        parts += _markdown_table(
            ["run", "number", "baseline", "run's", "difference", "verdict"],
            _difference_rows(study),
        )
        parts += ["", *_class_section(study, content["confidence"])]
    return "\n".join(parts) + "\n"


def latex(content: Mapping[str, Any]) -> str:
    """One `booktabs` table a study."""
    parts = []
    for name, study in content["studies"].items():
        more = _more_columns(study)
        head = ["run", *[f"{WORDS[t]} {n}" for t, n in COLUMNS], "difference", "verdict", *more]
        parts += [
            r"\begin{table}",
            rf"\caption{{{_escape(_title(name, study))} {_escape(_caption(content, study))}}}",
            rf"\label{{tab:{''.join(c for c in name if c.isalnum())}}}",
            r"\begin{tabular}{l" + "r" * len(COLUMNS) + "rl" + "r" * len(more) + "}",
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
    keys = ("difference", "low", "high", "std_error", "seed_std", "verdict", "images_needed")
    writer.writerow(["study", "variant", "seeds", "task", "number", "value", "baseline", *keys])
    for name, study in content["studies"].items():
        for label, variant in study["variants"].items():
            for task in WORDS:
                for number in NUMBERS:
                    one = variant.get(task, {}).get(number, {})
                    verdict = one.get("verdict", {})
                    one = {**one, "verdict": verdict.get("word")}
                    one["images_needed"] = verdict.get("images_needed")
                    value = _value(variant, task, number)
                    row = [name, label, len(variant["seeds"]), task, number, value]
                    writer.writerow([*row, one.get("a"), *[one.get(key) for key in keys]])
    return text.getvalue()


def _title(name: str, study: Mapping[str, Any]) -> str:
    return f"{name}: {study['question']}" if study["question"] else name


def _caption(content: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    seeds = _seeds(study)
    trained = f"{seeds} seeds each, their variance included" if seeds > 1 else "one seed each"
    return (
        f"{content['confidence']:.0%} intervals by paired bootstrap over {study['images']:,} "
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


def _seeds(study: Mapping[str, Any]) -> int:
    seeds = [len(variant["seeds"]) for variant in study["variants"].values()]
    return min((number for number in seeds if number), default=0)


def _rows(study: Mapping[str, Any]) -> Iterator[list[str]]:
    """One row a variant: the columns, the difference in mask AP, the verdict."""
    for name, variant in study["variants"].items():
        one = variant.get("segm", {}).get("AP")
        yield [
            name,
            *[_score(variant, task, number) for task, number in COLUMNS],
            _difference(one) if one else _no_difference(name, study),
            one["verdict"]["word"] if one else "",
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
                verdict = one["verdict"]["word"] + _needed(one)
                yield [name, f"{word} {number}", *scores, verdict]


def _class_section(study: Mapping[str, Any], confidence: float) -> list[str]:
    rows, tried = [], 0
    for name, variant in study["variants"].items():
        for category, numbers in variant.get("per_class", {}).get("segm", {}).items():
            one = numbers.get("AP")
            tried += one is not None
            if one and one["verdict"]["word"] != "not told apart":
                line = [name, category, _number(one["a"]), _number(one["b"])]
                rows.append([*line, _difference(one), one["verdict"]["word"]])
    if not tried:
        return []
    chance = round(tried * (1 - confidence))
    intro = (
        f"Of {tried} class differences in mask AP {len(rows)} are told from zero; about {chance} "
        "would be by chance alone."
    )
    if not rows:
        return ["### Classes", "", intro, ""]
    head = ["run", "class", "baseline", "run's", "difference", "verdict"]
    return ["### Classes", "", intro, "", *_markdown_table(head, iter(rows)), ""]


def _markdown_table(head: list[str], rows: Iterator[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]


def _value(variant: Mapping[str, Any], task: str, number: str) -> float | None:
    """A variant's score; results of former versions know no boundaries."""
    return variant["metrics"].get(task, {}).get(number)


def _score(variant: Mapping[str, Any], task: str, number: str) -> str:
    return _number(_value(variant, task, number))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _difference(one: Mapping[str, Any]) -> str:
    return f"{one['difference']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})"


def _no_difference(name: str, study: Mapping[str, Any]) -> str:
    if name == study["baseline"]:
        return "baseline"
    return "undefined" if "segm" in study["variants"][name] else "not evaluated"


def _span(one: Mapping[str, Any], task: str) -> str:
    interval = f"{one['low']:+.1f} to {one['high']:+.1f}"
    return f"{one['difference']:+.1f} points of {WORDS[task]} AP, interval {interval}"


def _needed(one: Mapping[str, Any]) -> str:
    needed = one["verdict"]["images_needed"]
    if needed is None:
        return ""
    return f"; about {needed:,} images would tell a difference of this size"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
