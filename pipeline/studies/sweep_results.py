"""What a sweep found: its trials as plain records, the best, which values mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from condinst.errors import UserError
from pipeline.studies.sweep_board import FAILED, FINISHED, STOPPED, listed

if TYPE_CHECKING:
    from pipeline.params import Sweep

IMPORTANCE = "fANOVA (optuna.importance)"
_ENOUGH = 4  # trials; fewer say nothing of what mattered
_PLAIN_ORDER = -1.0  # of a trial without a figure, when sorted by it


def trial_records(results: Any, steps: int | None) -> list[dict[str, Any]]:
    """Plain records of Ray Tune's results; the last figure of a trial counts.

    Args:
        results: iterable of its results.
        steps: of a trial that was not stopped.
    """
    rows = []
    for number, result in enumerate(results):
        metrics = result.metrics or {}
        step = metrics.get("step")
        state = FAILED if result.error else FINISHED if step == steps else STOPPED
        rows.append(
            {
                "number": number,
                "params": dict(result.config or {}),
                "value": None if result.error else metrics.get("score"),
                "state": state,
                "steps": step,
                "run_id": metrics.get("run_id") or None,
                "error": str(result.error).strip().splitlines()[-1] if result.error else "",
            }
        )
    return rows


def best_trial(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The finished trial of the highest figure.

    Raises:
        UserError: none finished.
    """
    finished = [trial for trial in trials if trial["state"] == FINISHED]
    if not finished:
        errors = {trial["error"] for trial in trials if trial["error"]}
        raise UserError(f"sweep: no trial finished; {'; '.join(sorted(errors)) or 'none was run'}")
    return max(finished, key=lambda trial: trial["value"])


def distributions(sweep: Sweep) -> dict[str, Any]:
    """The search space as Optuna has it."""
    import optuna

    space: dict[str, Any] = {}
    for key, distribution in sweep.space.items():
        ((kind, values),) = distribution.items()
        if kind == "choice":
            space[key] = optuna.distributions.CategoricalDistribution(tuple(values))
        elif kind == "int_uniform":
            space[key] = optuna.distributions.IntDistribution(*values)
        else:
            log = kind == "log_uniform"
            space[key] = optuna.distributions.FloatDistribution(*values, log=log)
    return space


def importance(trials: Sequence[Mapping[str, Any]], sweep: Sweep) -> dict[str, float]:
    """How much of the figure's variance each key explains: shares that add up to one.

    Trials that were stopped count with their last figure. Empty for a single key, for fewer than
    four trials, and where all figures are the same.
    """
    kept = [trial for trial in trials if trial["value"] is not None]
    if len(sweep.space) < 2 or len(kept) < _ENOUGH:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, space = optuna.create_study(direction="maximize"), distributions(sweep)
    for trial in kept:
        made = optuna.trial.create_trial(
            params=dict(trial["params"]), distributions=space, value=trial["value"]
        )
        study.add_trial(made)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=sweep.seed)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # no variance at all
        return {}
    return {key: float(share) for key, share in found.items()}


def table(trials: Sequence[Mapping[str, Any]], metric: str) -> str:
    """All trials for a terminal, the best first."""
    lines = [f"{'trial':>5}  {metric:>9}  {'steps':>6}  {'state':13}  values"]
    for trial in by_value(trials):
        value = "-" if trial["value"] is None else f"{trial['value']:.2f}"
        cells = f"{trial['number']:>5}  {value:>9}  {trial['steps'] or '-':>6}  "
        lines.append(f"{cells}{trial['state']:13}  {listed(trial['params'])}")
    return "\n".join(lines) + "\n"


def by_value(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trials, the highest figure first."""
    return sorted(trials, key=lambda one: -(_PLAIN_ORDER if one["value"] is None else one["value"]))
