"""The stage ``ablate``: every variant of a study trained and evaluated, for every seed."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from condinst.atomic import write_json
from condinst.cores import available_cores
from condinst.errors import UserError
from condinst.metrics import WORDS
from pipeline import runs, tracking
from pipeline.params import Params, as_dict
from pipeline.recipe import PreparedData, load_resolved, own_threads, resolve
from pipeline.studies.processes import Crew
from pipeline.studies.study import (
    STUDIES,
    Outcome,
    Trial,
    former_outcome,
    means,
    plan,
    select,
    shared_trainings,
    with_seeds,
    write_results,
)
from pipeline.studies.study_board import StudyBoard
from pipeline.tracking import notes
from pipeline.train.stage import Destination, train_into
from pipeline.train.tuning import tune


def run(
    params: Params,
    study: str,
    jobs: int | None = None,
    *,
    variants: Sequence[str] = (),
    seeds: int | None = None,
) -> None:
    """Run a study and leave its table in ``outputs/ablate/<study>``.

    Trainings that are finished, here or in another study, are used again; a trial that fails does
    not stop the others.

    Args:
        params: with the study.
        study: its name.
        jobs: trials at a time, None for as many as fit. More than one run in processes of their
            own, with ``ray.address`` or the launcher ``ray`` as tasks of Ray.
        variants: run these alone; what was left of the others stays.
        seeds: so many instead of the study's own.

    Raises:
        UserError: the study cannot be planned, or, after all trials, some have failed.
        KeyboardInterrupt: it was stopped; the message says what is kept.
    """
    data = PreparedData.load()
    params = with_seeds(params, study, seeds)
    every = plan(params, study, data)
    decided = [tune(trial.params, data) for trial in every]
    if any(decided):  # their keys are others now
        every = plan(params, study, data)
    trials = select(every, variants)
    same = shared_trainings(every, params, data)
    _clear_strangers(STUDIES / study, every)
    concurrency = _concurrency(params, len(trials), jobs)
    began = time.monotonic()
    others = (former_outcome(trial, data.hash) for trial in every if trial not in trials)
    outcomes = [outcome for outcome in others if outcome is not None]
    kept, folder = len(outcomes), STUDIES / study
    with _parent_run(params, study, every, data) as parent:
        address: dict[str, Any] = {}
        if parent.address is not None:
            address = {
                "run_id": parent.address.run_id,
                "experiment_id": parent.address.experiment_id,
            }
        runner = _runner(params, concurrency)
        try:
            for outcome in runner(trials, data, address.get("run_id"), concurrency):
                outcomes.append(outcome)
                outcomes.sort(key=lambda one: every.index(one.trial))
                folder = write_results(params, study, outcomes, same, address)
                line = _line(outcome, same[outcome.trial.name])
                _say(f"[{len(outcomes) - kept}/{len(trials)}] {line}")
        except KeyboardInterrupt:
            done = f"{len(outcomes) - kept} of {len(trials)} trials"
            raise KeyboardInterrupt(runs.interrupted(f"ablation {study}", done)) from None
        parent.log_metrics(
            {
                f"{variant}/{metric}": value
                for variant, tasks in means(outcomes).items()
                for metric, value in tracking.figures_by_name(tasks).items()
            }
        )
        parent.log_artifacts([folder / "table.csv", folder / "results.json"])
        written = runs.read_json(folder / "results.json", f"ablate {study}")
        parent.set_tags({notes.TAG: notes.study_note(written)})
        failed = [outcome for outcome in outcomes if outcome.state == "failed"]
        if failed:
            raise UserError(_failure(study, failed, len(trials)))
    _say(f"{study}: {len(trials)} trials in {time.monotonic() - began:.0f} s, in {folder}")


def run_trial(trial: Trial, data: PreparedData, parent: str | None) -> Outcome:
    """Train and evaluate one variant; any failure becomes its outcome."""
    from pipeline.evaluate.stage import evaluate_once

    try:
        tags = {"study": trial.study, "variant": trial.variant}
        place = Destination(trial.folder / "train", trial.name, parent, tags, of_study=True)
        record = train_into(trial.params, data, place)
        weights, output = trial.folder / "train" / "model.pth", trial.folder / "evaluate"
        cfg = load_resolved(trial.folder / "train" / "config.yaml")
        metrics = evaluate_once(cfg, weights, data, output, trial.params, trial.key)
        about = runs.read_json(output / "evaluation.json", "ablate")
        names = ("metrics.json", "evaluation.json", "pr_curves.csv", "detections.json")
        tracking.log_evaluation(
            trial.params,
            record["run_id"],
            metrics,
            step=record["steps"],
            tags={key: str(about.get(key)) for key in ("evaluator", "evaluator_version")},
            artifacts=[output / name for name in names],
        )
    except UserError as error:
        return Outcome(trial, "failed", str(error))
    except Exception as error:  # whatever it is, the other variants go on
        trace = trial.folder / "error.txt"
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(traceback.format_exc())
        return Outcome(trial, "failed", f"{type(error).__name__}: {error} (see {trace})")
    return Outcome(trial, "finished", record=record, metrics=metrics)


def _one_by_one(
    trials: Sequence[Trial], data: PreparedData, parent: str | None, concurrency: int
) -> Iterator[Outcome]:
    assert concurrency == 1, concurrency
    for trial in trials:
        _say(f"{trial.name}: {trial.params.train.steps or 'as the recipe says'} steps")
        yield run_trial(trial, data, parent)


def _side_by_side(
    trials: Sequence[Trial], data: PreparedData, parent: str | None, concurrency: int
) -> Iterator[Outcome]:
    """Run trials in processes of this machine; trials of one training one after another.

    A process that dies is started again, and its training goes on from its checkpoint.
    """
    jobs = _jobs(trials, data, parent)
    firsts = [group[0] for _, group, *_ in jobs]
    steps = [resolve(trial.params, data).cfg.SOLVER.MAX_ITER for trial in firsts]
    names, keys = [trial.name for trial in firsts], [trial.key for trial in firsts]
    board = StudyBoard(names, keys, steps, concurrency)
    logs = [runs.RUNS / key / "log.txt" for key in keys]
    gpus = trials[0].params.train.num_gpus
    crew = Crew(run_group, jobs, logs, at_once=concurrency, gpus=gpus, settled=board.started)
    with board.showing():
        for number, found in crew.results(lambda: board.tick([*crew.running], crew.held_back)):
            outcomes = _outcomes(found, jobs[number][1])
            board.over(number, outcomes[0].state)
            yield from outcomes


def _through_ray(
    trials: Sequence[Trial], data: PreparedData, parent: str | None, concurrency: int
) -> Iterator[Outcome]:
    """Run trials as Ray tasks, as they end; trials of one and the same training one after another.

    A task whose worker dies is tried again and goes on from its checkpoint.
    """
    from pipeline.cluster import connected, tasks

    params = trials[0].params
    with connected(params.ray):
        jobs = _jobs(trials, data, parent)
        processes = params.train.num_gpus or params.train.num_processes
        cpus = max(processes, (os.cpu_count() or 1) // concurrency if not params.ray.address else 1)
        for number, found in tasks(run_group, jobs, cpus=cpus, gpus=params.train.num_gpus):
            yield from _outcomes(found, jobs[number][1])


def _runner(params: Params, concurrency: int) -> Callable[..., Iterator[Outcome]]:
    if params.ray.address is not None:
        return _through_ray
    if concurrency == 1:
        return _one_by_one
    return _through_ray if params.train.launcher == "ray" else _side_by_side


def _jobs(
    trials: Sequence[Trial], data: PreparedData, parent: str | None
) -> list[tuple[str, list[Trial], PreparedData, str | None]]:
    """Arguments of `run_group`, one tuple a training."""
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        by_key.setdefault(trial.key, []).append(trial)
    return [(str(Path.cwd()), group, data, parent) for group in by_key.values()]


def _outcomes(found: list[Outcome] | Exception, group: Sequence[Trial]) -> list[Outcome]:
    """What a job has given, or, where its process died again and again, why."""
    if not isinstance(found, Exception):
        return found
    error = f"{type(found).__name__}: {found}".strip().splitlines()[0]
    return [Outcome(trial, "failed", error) for trial in group]


def _concurrency(params: Params, trials: int, asked: int | None) -> int:
    """Trials at a time: those asked for, but no more than there are GPUs; says what is too many."""
    fit = fitting_jobs(params, trials)
    wanted = fit if asked is None else min(asked, trials)
    if wanted > fit and params.train.num_gpus:
        _say(f"{fit} instead of {wanted} at a time: no more have the GPUs that they need")
        return fit
    if wanted > fit:
        _say(f"{wanted} at a time share {available_cores()} cores: no faster than {fit}")
    return wanted


def fitting_jobs(params: Params, trials: int) -> int:
    """Trials that this machine can train at a time: by GPUs, or by a core a thread."""
    if params.ray.address is not None:
        return trials
    if params.train.num_gpus:
        import torch

        return max(1, min(trials, torch.cuda.device_count() // params.train.num_gpus))
    taken = params.train.num_processes * own_threads(params)["train.threads"]
    return max(1, min(trials, available_cores() // taken))


def run_group(
    folder: str, group: Sequence[Trial], data: PreparedData, parent: str | None
) -> list[Outcome]:
    """Run trials that share a training, in the project's folder on whatever machine this is."""
    os.chdir(folder)
    return [run_trial(trial, data, parent) for trial in group]


def _parent_run(
    params: Params, study: str, trials: Sequence[Trial], data: PreparedData
) -> tracking.Run:
    """The study's own MLflow run; the same one when the same study is started again."""
    store = tracking.connect(params.tracking)
    ledger = runs.RUNS / "studies" / f"{study}-{runs.digest([t.key for t in trials])}.json"
    former = runs.read_json(ledger, f"ablate {study}").get("run_id") if ledger.exists() else None
    section = as_dict(params)["ablations"][study]
    tags = {"study": study, "profile": params.profile, "data_hash": data.hash}
    run = tracking.open_run(store, f"ablate {study}", section, tags, former=former)
    if run.address is not None:
        write_json(ledger, {"run_id": run.address.run_id})
    return run


def _clear_strangers(folder: Path, trials: Sequence[Trial]) -> None:
    """Remove what an earlier form of the study left, so that nobody reads it as part of this."""
    wanted = {trial.folder.resolve() for trial in trials}
    for path in folder.glob("*/seed*"):
        if path.resolve() not in wanted:
            shutil.rmtree(path)
    for name in ("results.json", "table.csv", "metrics.json"):
        (folder / name).unlink(missing_ok=True)


def _line(outcome: Outcome, same: Sequence[str]) -> str:
    if outcome.state == "failed":
        return f"{outcome.trial.name}: FAILED: {outcome.error}"
    found = [(word, outcome.metrics.get(task, {}).get("AP")) for task, word in WORDS.items()]
    scores = ", ".join(f"{word} AP {'-' if v is None else f'{v:.1f}'}" for word, v in found)
    shared = f" (the same training as {', '.join(same)})" if same else ""
    return f"{outcome.trial.name}: {scores}{shared}"


def _failure(study: str, failed: Sequence[Outcome], total: int) -> str:
    lines = [f"ablation {study}: {len(failed)} of {total} trials failed, the others are kept:"]
    lines += [f"  {outcome.trial.name}: {outcome.error}" for outcome in failed]
    return "\n".join([*lines, "Run the same command again to repeat only these."])


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
