"""The note on the MLflow page of a parent run: a table with links to its nested runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from condinst.metrics import WORDS
from pipeline.tracking.address import compare_url
from pipeline.tracking.provenance import short

TAG = "mlflow.note.content"
_LONGEST = 7500  # MLflow accepts 8000 characters


def study_note(results: Mapping[str, Any], comparison: str = "", plot: str = "") -> str:
    """The page of a study's parent run.

    Args:
        results: ``results.json`` of the study.
        comparison: of its variants in Markdown, if there is one.
        plot: path of the comparison's image among the run's files, if there is one.
    """
    trained = [run for run in results["runs"] if run.get("run_id")]
    parts = [f"**{results['question']}**", "", *_compare_lines(trained, results), ""]
    if plot:
        parts += [*_plot_lines(results, plot), ""]
    heads = [f"{word} AP" for word in WORDS.values()]
    parts += [f"| variant | seed | {' | '.join(heads)} | state |", "|---" * (3 + len(heads)) + "|"]
    for run in results["runs"]:
        name = run["variant"].replace("|", "/")
        scores = [_figure(run["metrics"].get(task, {}).get("AP")) for task in WORDS]
        cells = [_link(name, run), str(run["seed"]), *scores, run["state"]]
        parts.append(f"| {' | '.join(cells)} |")
    return _cut("\n".join([*parts, "", _deeper(comparison)]))


def sweep_note(results: Mapping[str, Any]) -> str:
    """The page of a sweep's parent run, from its ``results.json``."""
    trained = [trial for trial in results["trials"] if trial.get("run_id")]
    keys, best = list(results["space"]), results["best"]["number"]
    parts = [f"**Search for the best {results['metric']}**", ""]
    parts += [*_compare_lines(trained, results), ""]
    head = ["trial", results["metric"], "steps", "state", *keys]
    parts += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for trial in results["trials"]:
        name = f"{trial['number']}{' (best)' if trial['number'] == best else ''}"
        own = {**trial, "experiment_id": results["experiment_id"]}
        cells = [_link(name, own), _figure(trial["value"]), str(trial["steps"] or "-")]
        cells += [trial["state"], *[short(trial["params"].get(key, "")) for key in keys]]
        parts.append(f"| {' | '.join(cells)} |")
    parts += ["", "`best.yaml` among the files is a ready-made profile with the best values."]
    return _cut("\n".join(parts))


def _compare_lines(trained: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> list[str]:
    if len(trained) < 2:
        return []
    ids = [run["run_id"] for run in trained]
    url = compare_url(".", ids, str(results["experiment_id"]))
    return [f"[Compare these {len(ids)} runs side by side]({url})"]


def _plot_lines(results: Mapping[str, Any], plot: str) -> list[str]:
    page = f"#/experiments/{results['experiment_id']}/runs/{results['run_id']}/artifacts/{plot}"
    picture = f"get-artifact?path={plot}&run_uuid={results['run_id']}"
    return [f"[![differences with their intervals]({picture})]({page})"]


def _link(name: str, run: Mapping[str, Any]) -> str:
    if not run.get("run_id"):
        return name
    return f"[{name}](#/experiments/{run['experiment_id']}/runs/{run['run_id']})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _deeper(markdown: str) -> str:
    """Markdown without its title, all other headings two levels down."""
    lines: Iterator[str] = iter(markdown.splitlines())
    kept = [line for line in lines if not line.startswith("# ")]
    return "\n".join(re.sub("^#", "###", line) for line in kept).strip()


def _cut(text: str) -> str:
    """As many whole lines as MLflow accepts."""
    if len(text) <= _LONGEST:
        return text
    return text[:_LONGEST].rpartition("\n")[0] + "\n\nThe rest is among the run's files."
