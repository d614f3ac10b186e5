"""The stage ``sweep``: a search over ``sweep.space`` by Ray Tune, Optuna and ASHA."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from condinst.atomic import write_json
from condinst.engine.trainer import RowHook
from condinst.errors import UserError
from pipeline import runs, tracking
from pipeline.cluster import connected
from pipeline.layout import SWEPT
from pipeline.params import Params, as_dict, override
from pipeline.recipe import PreparedData, load_resolved, own_threads
from pipeline.studies import sweep_board, sweep_results
from pipeline.tracking import notes
from pipeline.train.stage import Destination, run_key, train_into
from pipeline.train.tuning import settled, tune

_RUNGS = 3  # evaluations of a trial; a bad one stops at the first or second
_TRIES_AGAIN = 2  # of a trial whose process died; it goes on from its last checkpoint
_STATES = {  # Ray Tune's words and ours
    "RUNNING": sweep_board.TRAINING,
    "TERMINATED": sweep_board.STOPPED,
    "ERROR": sweep_board.FAILED,
}


def run(params: Params) -> None:
    """Search for the values that make ``sweep.metric`` best.

    Leaves ``results.json`` with every trial and ``best.yaml``, a profile with the best values, in
    ``outputs/sweep``. A killed sweep goes on when it is started again.

    Raises:
        UserError: the space does not fit the recipe, Ray does not answer, or no trial finished.
        KeyboardInterrupt: it was stopped; the message says what is kept.
    """
    data = PreparedData.load()
    base = _budgeted(params)
    tune(base, data)
    base = settled(base, data)
    sweep_key = runs.digest([as_dict(base), run_key(base, data)])
    folder = (runs.RUNS / f"sweep-{sweep_key}").resolve()
    with runs.locked(folder), _parent_run(params, folder, data) as parent:
        address = parent.address
        parent_id = address.run_id if address else None
        settings = {
            "root": str(Path.cwd()),
            "params": base,
            "data": data,
            "parent": parent_id,
            "folder": str(folder),
        }
        board = sweep_board.Board(params.sweep.metric, params.sweep.trials, base.train.steps or 0)
        with connected(params.ray, cpus=_slots(params)):
            try:
                with board.showing():
                    results = _search(params, settings, folder)
            except KeyboardInterrupt:
                done = f"{board.over()} of {params.sweep.trials} trials"
                raise KeyboardInterrupt(runs.interrupted("sweep", done)) from None
            finally:
                _end_children(params, parent_id)
        trials = sweep_results.trial_records(results, base.train.steps)
        content = _content(params, base, trials, address)
        _publish(params, content, folder)
        parent.log_metrics({params.sweep.metric: content["best"]["value"]})
        parent.log_artifacts([SWEPT / "results.json", SWEPT / "best.yaml"])
        parent.set_tags({notes.TAG: notes.sweep_note(content)})
    sys.stdout.write(sweep_results.table(trials, params.sweep.metric) + f"Written to {SWEPT}\n")


def _content(
    params: Params,
    base: Params,
    trials: list[dict[str, Any]],
    address: tracking.Address | None,
) -> dict[str, Any]:
    """What ``results.json`` holds."""
    best = sweep_results.best_trial(trials)
    shares = sweep_results.importance(trials, params.sweep)
    return {
        "metric": params.sweep.metric,
        "steps": base.train.steps,
        "run_id": address.run_id if address else None,
        "experiment_id": address.experiment_id if address else None,
        "space": as_dict(params)["sweep"]["space"],
        "importance": shares,
        "importance_by": sweep_results.IMPORTANCE if shares else None,
        "trials": trials,
        "best": best,
    }


def _publish(params: Params, content: Mapping[str, Any], folder: Path) -> None:
    """Leave the results and the best trial's values as a profile."""
    best = content["best"]
    write_json(folder / "results.json", content)
    profile = as_dict(override(params, best["params"]))
    text = yaml.safe_dump({**profile, "profile": f"{params.profile}-best"}, sort_keys=False)
    of = f"Trial {best['number']} of {len(content['trials'])}"
    (folder / "best.yaml").write_text(f"# {of}: {content['metric']} {best['value']:.2f}\n{text}")
    runs.publish({name: folder / name for name in ("results.json", "best.yaml")}, SWEPT)


def _budgeted(params: Params) -> Params:
    """The params of a trial before its values: fewer steps, and evaluations on the way."""
    steps = params.sweep.steps or params.train.steps
    if steps is None:
        raise UserError("sweep.steps and train.steps are both null; set one of them")
    changes = {"train.steps": steps, "train.eval_period": max(1, steps // _RUNGS)}
    return override(params, {**changes, **own_threads(params)})


def _slots(params: Params) -> int:
    """How many CPUs an own Ray may hand out: one a trial and process, as many as there are."""
    wanted = params.train.num_gpus or params.train.num_processes
    return max(wanted, os.cpu_count() or 1)


def run_trial(values: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Train and evaluate one trial inside a Ray worker, reporting on the way.

    Args:
        values: key -> value, as the space gives them.
        settings: what all trials share.
    """
    from ray import tune

    from pipeline.evaluate.stage import evaluate_run

    os.chdir(settings["root"])
    params, data = override(settings["params"], values), settings["data"]
    number = tune.get_context().get_trial_id()
    output = Path(settings["folder"]) / "trials" / number
    tags = {"trial_id": number}
    place = Destination(
        output / "train", f"trial {number}", settings["parent"], tags, of_study=True
    )
    hook = ReportHook(params.sweep.metric, tune.report)
    record = train_into(params, data, place, hooks=[hook])
    cfg = load_resolved(output / "train" / "config.yaml")
    weights = output / "train" / "model.pth"
    metrics = evaluate_run(cfg, weights, data.root, output / "evaluate", params, progress=False)
    tracking.log_evaluation(params, record["run_id"], metrics, step=record["steps"])
    found = tracking.figures_by_name(metrics)
    hook.tell(record["steps"], found.get(params.sweep.metric), record["run_id"])


class ReportHook(RowHook):
    """Tells Ray Tune each evaluation on the way; Tune may end the trial there.

    Args:
        metric: such as ``segm/AP``.
        report: takes a dict.
    """

    def __init__(self, metric: str, report: Any) -> None:
        self.metric = metric
        self.report = report

    def on_row(self, row: dict[str, float]) -> None:
        """Tell the metric of an evaluation."""
        if f"eval/{self.metric}" in row:
            self.tell(int(row["iteration"]), row[f"eval/{self.metric}"])

    def tell(self, step: int, value: float | None, run_id: str | None = None) -> None:
        """Report a value; an undefined one counts as zero."""
        self.report({"score": value or 0.0, "step": step, "run_id": run_id or ""})


def _search(params: Params, settings: Mapping[str, Any], folder: Path) -> Any:
    from ray import tune

    processes = params.train.num_gpus or params.train.num_processes
    resources = {"cpu": processes, "gpu": params.train.num_gpus}
    trainable = tune.with_resources(tune.with_parameters(_trainable, settings=settings), resources)
    storage = folder / "tune"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    if tune.Tuner.can_restore(str(storage / "search")):
        _say(f"sweep: going on with the search in {os.path.relpath(folder)}")
        tuner = tune.Tuner.restore(
            str(storage / "search"), trainable, resume_errored=True, resume_unfinished=True
        )
    else:
        tuner = tune.Tuner(
            trainable, tune_config=_tune_config(params, settings), run_config=_run_config(storage)
        )
    with warnings.catch_warnings():  # a trial that goes on after a kill tells again what it told
        warnings.filterwarnings("ignore", message=".*is already reported")
        return tuner.fit()


def _trainable(config: dict[str, Any], settings: Mapping[str, Any]) -> None:
    run_trial(config, settings)


def _tune_config(params: Params, settings: Mapping[str, Any]) -> Any:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    steps = settings["params"].train.steps
    return tune.TuneConfig(
        num_samples=params.sweep.trials,
        reuse_actors=True,  # a new process for each trial would import everything again
        search_alg=OptunaSearch(
            space=sweep_results.distributions(params.sweep),
            metric="score",
            mode="max",
            seed=params.sweep.seed,
        ),
        scheduler=ASHAScheduler(
            time_attr="step",
            metric="score",
            mode="max",
            max_t=steps + 1,  # the last report, after all steps, must not look like a stop
            grace_period=max(1, steps // _RUNGS),
            reduction_factor=2,
        ),
    )


def _run_config(storage: Path) -> Any:
    from ray import tune

    return tune.RunConfig(
        name="search",
        storage_path=str(storage),
        callbacks=[_progress()],
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=_TRIES_AGAIN),
    )


def _progress() -> Any:
    """A callback of the driver that shows what the trials are doing."""
    from ray import tune

    class Progress(tune.Callback):
        def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
            tell_board(trials)

        def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
            tell_board(trials)

    return Progress()


def tell_board(trials: Sequence[Any]) -> None:
    """Show Ray Tune's trials."""
    sweep_board.tell([_row(number, trial) for number, trial in enumerate(trials)])


def _row(number: int, trial: Any) -> sweep_board.TrialRow:
    last = trial.last_result or {}
    state = _STATES.get(trial.status, "waiting")
    if trial.status == "TERMINATED" and last.get("run_id"):  # told after the last step alone
        state = sweep_board.FINISHED
    return sweep_board.TrialRow(number, trial.config, state, last.get("step"), last.get("score"))


def _parent_run(params: Params, folder: Path, data: PreparedData) -> tracking.Run:
    store = tracking.connect(params.tracking)
    ledger = folder / "parent.json"
    former = runs.read_json(ledger, "sweep").get("run_id") if ledger.exists() else None
    tags = {"sweep": params.profile, "profile": params.profile, "data_hash": data.hash}
    run = tracking.open_run(store, "sweep", as_dict(params)["sweep"], tags, former=former)
    if run.address is not None:
        write_json(ledger, {"run_id": run.address.run_id})
    return run


def _end_children(params: Params, parent: str | None) -> None:
    """End the runs of trials that the scheduler stopped; their processes had no time to."""
    store = tracking.connect(params.tracking) if parent else None
    if store is not None and parent is not None:
        with contextlib.suppress(UserError):
            store.end_children(parent)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
