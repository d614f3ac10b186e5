"""The stage ``compare``: differences between evaluated runs, with intervals and plain verdicts."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condinst.atomic import write_json
from condinst.errors import UserError
from condinst.evaluation.bootstrap import mean_interval
from condinst.evaluation.differences import Pair, pair_samples
from condinst.evaluation.losses import KINDS
from condinst.evaluation.scores import NUMBERS
from condinst.metrics import PRIMARY, WORDS
from pipeline import runs, tracking
from pipeline.compare import annotation
from pipeline.compare import plot as comparison_plot
from pipeline.compare import tables as comparison_tables
from pipeline.compare.evaluated import EvaluatedRun, Sampler, check_comparable, locate
from pipeline.compare.judging import Measured, check_primary, judge_studies
from pipeline.compare.sentences import study_verdict
from pipeline.layout import COMPARED, EVALUATED, STUDIES
from pipeline.params import Ablation, Compare, Params
from pipeline.params.axis import find_axis
from pipeline.tracking import notes

LOST = "segm"  # the task whose errors are sorted by kind


def run(params: Params) -> None:
    """Compare every variant of every study with its baseline, into ``outputs/compare``.

    Raises:
        UserError: a study lacks its baseline, or its runs were not measured alike.
    """
    settings = params.compare
    sampler = Sampler(settings.draws, settings.seed)
    found: dict[str, Any] = {**dataclasses.asdict(settings), "studies": {}}
    if (EVALUATED / "evaluation.json").exists():
        found["main"] = _main(EvaluatedRun.load(EVALUATED, params.profile))
    absent = [name for name in params.ablations if not (STUDIES / name).is_dir()]
    if absent and len(absent) == len(params.ablations):
        raise UserError(
            f"{STUDIES / absent[0]} is missing; run `python cli.py ablate {absent[0]}` first"
        )
    studies = {}
    for name, study in params.ablations.items():
        if name in absent:
            _say(f"{name} was not run and is left out: python cli.py ablate {name}")
            continue
        studies[STUDIES / name] = _as_run(STUDIES / name, study)
    found["studies"] = compare_studies(studies, sampler, settings)
    for folder, study in studies.items():
        _add_axis_and_costs(found["studies"][folder.name], folder, study, settings)
    _publish(found, COMPARED)
    _log_to_parents(found, params)
    sys.stdout.write(comparison_tables.summary(found) + f"Written to {COMPARED}\n")


def _add_axis_and_costs(
    result: dict[str, Any], folder: Path, study: Ablation, settings: Compare
) -> None:
    """Adds the axis of a study's curve, and what its annotations cost."""
    axis = find_axis(study)
    if axis is not None:
        result["axis"] = {"key": axis.key, "values": dict(axis.values)}
    for variant, cost in annotation.costs(study, folder, settings, result["data_hash"]).items():
        result["variants"][variant]["annotation"] = cost


def compare_studies(
    studies: Mapping[Path, Ablation], sampler: Sampler, rules: Compare
) -> dict[str, dict[str, Any]]:
    """Compare the variants of studies with their baselines.

    Args:
        studies: what the stage ``ablate`` left, ``<variant>/seed<k>/evaluate``, to its section of
            params.yaml.
        sampler: draws samples.
        rules: confidence, margin and family of the verdicts.

    Returns:
        Plain values by name of the folder, as ``comparison.json`` holds them.

    Raises:
        UserError: a baseline was not evaluated, or runs were not measured alike.
    """
    measured = {}
    for folder, study in studies.items():
        _say(f"comparing {folder.name}")
        measured[folder.name] = _measure(folder, study, sampler, rules.confidence)
    judged = judge_studies(measured, rules)
    return {name: {**one, "verdict": study_verdict(one)} for name, one in judged.items()}


def _measure(folder: Path, study: Ablation, sampler: Sampler, confidence: float) -> Measured:
    check_primary(study.primary, f"ablations.{folder.name}.primary")
    evaluated = {name: _seeds(folder, name, study.seeds) for name in study.variants}
    if not evaluated[study.baseline]:
        raise UserError(
            f"the baseline {study.baseline} of {folder.name} was not evaluated: run "
            f"`python cli.py ablate {folder.name}`"
        )
    check_comparable([one for seeds in evaluated.values() for one in seeds.values()])
    base = evaluated[study.baseline]
    about = next(iter(base.values())).about
    measured = {
        "question": study.question,
        **_published(study, about),
        "baseline": study.baseline,
        "steps": study.steps,
        "images": about["images"],
        "data_hash": about.get("data_hash"),
        "evaluator": f"{about['evaluator']} {about['evaluator_version']}",
        "variants": {
            name: _scores(study, name, base, evaluated[name], sampler, confidence)
            for name in study.variants
        },
    }
    pairs = {
        name: found
        for name, own in evaluated.items()
        if name != study.baseline and (found := _pairs(base, own, sampler))
    }
    return Measured(measured, study.primary, pairs)


def compare_runs(
    references: Sequence[str | Path],
    *,
    rules: Compare,
    primary: str = PRIMARY,
    output: Path | None = None,
) -> dict[str, Any]:
    """Compare evaluations with the first of them, print the table and write it if asked.

    Args:
        references: folders of evaluations, DVC revisions or MLflow run ids; two at least.
        rules: draws, confidence, seed and margin.
        primary: the metric that the verdicts are about.
        output: folder for the files of ``comparison``, as JSON, Markdown, LaTeX and CSV.

    Returns:
        What ``comparison.json`` holds.

    Raises:
        UserError: a reference names no evaluation, they were not measured alike, or there is no
            such metric.
    """
    check_primary(primary, "--primary")
    if len(references) < 2:
        raise UserError("compare needs two runs at least: the baseline first, then the others")
    if len({str(one) for one in references}) < len(references):
        raise UserError("compare was given the same run twice: there is nothing to compare")
    with tempfile.TemporaryDirectory() as cache:
        found = [locate(reference, Path(cache)) for reference in references]
        check_comparable(found)
        sampler = Sampler(rules.draws, rules.seed)
        named = {_unique(one, found): {0: one} for one in found}
        base = next(iter(named))
        study = Ablation(
            question="", baseline=base, seeds=(0,), steps=None, variants={n: {} for n in named},
            primary=primary,
        )  # fmt: skip
        about = {
            "question": "",
            "baseline": base,
            "images": found[0].about["images"],
            "data_hash": found[0].about.get("data_hash"),
            "evaluator": f"{found[0].about['evaluator']} {found[0].about['evaluator_version']}",
            "variants": {
                name: _scores(study, name, named[base], own, sampler, rules.confidence)
                for name, own in named.items()
            },
        }
        pairs = {n: _pairs(named[base], own, sampler) for n, own in named.items() if n != base}
    (result,) = judge_studies({"runs": Measured(about, primary, pairs)}, rules).values()
    result["verdict"] = study_verdict(result)
    content = {**dataclasses.asdict(rules), "studies": {"runs": result}}
    comparison_tables.show(content)
    if output is not None:
        _publish(content, output)
    return content


def _as_run(folder: Path, study: Ablation) -> Ablation:
    """The study with the seeds that were really run, of which `ablate --seeds` may ask for more.

    Raises:
        UserError: it ran with another primary metric.
    """
    path = folder / "results.json"
    results = runs.read_json(path, "ablate") if path.exists() else {}
    declared = results.get("primary", PRIMARY if results else study.primary)
    if declared != study.primary:
        raise UserError(
            f"ablations.{folder.name}.primary is {study.primary}, but the study ran for "
            f"{declared}: a metric that is chosen after the results are seen proves nothing; set "
            f"it back, or declare the new one by `python cli.py ablate {folder.name}`"
        )
    seeds = results.get("seeds")
    return dataclasses.replace(study, seeds=tuple(seeds)) if seeds else study


def _published(study: Ablation, about: dict[str, Any]) -> dict[str, Any]:
    """What others published for the variants, and whether it is on other data."""
    if not study.published:
        return {}
    values = {
        "values": dict(study.published),
        "from": study.published_from,
        "data": study.published_data,
        "other_data": about.get("dataset") != study.published_data,
    }
    return {"published": values}


def _log_to_parents(found: dict[str, Any], params: Params) -> None:
    """Add tables, image and links to the MLflow run of each study."""
    results = {
        name: runs.read_json(path, "ablate")
        for name in found["studies"]
        if (path := STUDIES / name / "results.json").exists()
    }
    known = {name: study for name, study in results.items() if study.get("run_id")}
    store = tracking.connect(params.tracking, optional=True) if known else None
    for name, study in known.items():
        if store is not None and store.has(study["run_id"]):
            own = {**found, "studies": {name: found["studies"][name]}}
            table = comparison_tables.markdown(own)
            with tempfile.TemporaryDirectory() as folder, store.reopen(study["run_id"]) as run:
                files = [Path(folder) / file for file in ("comparison.md", "comparison.svg")]
                files[0].write_text(table)
                drawn = comparison_plot.draw(own, files[1])
                run.log_artifacts(files if drawn else files[:1], "compare")
                plot = "compare/comparison.svg" if drawn else ""
                run.set_tags({notes.TAG: notes.study_note(study, table, plot)})


def _scores(
    study: Ablation,
    name: str,
    base: dict[int, EvaluatedRun],
    own: dict[int, EvaluatedRun],
    sampler: Sampler,
    confidence: float,
) -> dict[str, Any]:
    """One variant's scores, mean over its seeds."""
    each, tasks = list(own.values()), _tasks(base, own)
    return {
        "changes": dict(study.variants[name]),
        "seeds": sorted(own),
        "missing_seeds": sorted(set(study.seeds) - set(own)),
        "metrics": {task: _mean_metrics(each, task, sampler) for task in tasks},
        "lost": _mean_lost(each, sampler),
        "levels": _levels(each, tasks, sampler, confidence),
    }


def _levels(
    own: Sequence[EvaluatedRun], tasks: Sequence[str], sampler: Sampler, confidence: float
) -> dict[str, dict[str, Any]]:
    """Task -> AP -> mean over the seeds and its interval; empty where nothing ran."""
    if not own:
        return {}
    found = {task: mean_interval(sampler.sample(own, task), "AP", confidence) for task in tasks}
    return {task: {"AP": dataclasses.asdict(one)} for task, one in found.items() if one}


def _pairs(
    base: dict[int, EvaluatedRun], own: dict[int, EvaluatedRun], sampler: Sampler
) -> dict[str, tuple[Pair, ...]]:
    """Task to what a variant and the baseline have both; empty where they share no seed."""
    shared = sorted(set(base) & set(own))
    found = {}
    for task in _tasks(base, own) if shared else ():
        before = sampler.sample([base[seed] for seed in shared], task)
        after = sampler.sample([own[seed] for seed in shared], task)
        sampler.sample([base[shared[0]], own[shared[0]]], task)  # both on the same data
        found[task] = pair_samples(before, after)
    return found


def _tasks(base: dict[int, EvaluatedRun], own: dict[int, EvaluatedRun]) -> list[str]:
    both = [*base.values(), *own.values()]
    return [task for task in WORDS if all(one.measures(task) for one in both)]


def _seeds(folder: Path, variant: str, seeds: Sequence[int]) -> dict[int, EvaluatedRun]:
    """The seeds of a variant that were evaluated."""
    found = {}
    for seed in seeds:
        place = folder / variant / f"seed{seed}" / "evaluate"
        if (place / "evaluation.json").exists():
            found[seed] = EvaluatedRun.load(place, f"{variant}/seed{seed}")
    return found


def _mean_metrics(
    found: Sequence[EvaluatedRun], task: str, sampler: Sampler
) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    each = [sampler.metrics(one, task) for one in found]
    for name in NUMBERS:
        values = [value for one in each if (value := one.get(name)) is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def _mean_lost(found: Sequence[EvaluatedRun], sampler: Sampler) -> dict[str, float]:
    """Kind of error to the points of mask AP50 that it costs; empty where nothing ran."""
    losses = [sampler.lost(one, LOST).gains for one in found if one.measures(LOST)]
    return {kind: sum(one[kind] for one in losses) / len(losses) for kind in KINDS if losses}


def _main(found: EvaluatedRun) -> dict[str, Any]:
    intervals = found.about.get("intervals", {})
    return {"name": found.name, "metrics": found.metrics, "intervals": intervals}


def _unique(one: EvaluatedRun, found: Sequence[EvaluatedRun]) -> str:
    same = [other for other in found if other.name == one.name]
    return one.name if len(same) == 1 else f"{one.name} ({same.index(one) + 1})"


def _publish(content: dict[str, Any], output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "comparison.json", content)
        write_json(folder / "metrics.json", comparison_tables.flat_metrics(content))
        (folder / "comparison.md").write_text(comparison_tables.markdown(content))
        (folder / "comparison.tex").write_text(comparison_tables.latex(content))
        comparison_plot.draw(content, folder / "comparison.svg")
        (folder / "table.csv").write_text(comparison_tables.csv_table(content))
        runs.publish({path.name: path for path in folder.iterdir()}, output)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
