"""MLflow: one run per training, nested under that of a study or a sweep.

The store is ``MLFLOW_TRACKING_URI`` or the project's own ``mlflow.db``. A run is always ended: by
its context, or, if the process was killed, by the next one that opens the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condinst.errors import UserError
from pipeline.tracking.address import DATABASE, Address, check_answers, default_uri, own_uri
from pipeline.tracking.moved import mend
from pipeline.tracking.provenance import (
    PROCESS,
    figures_by_name,
    is_alive,
    process_tags,
)
from pipeline.tracking.run import NoRun, Run, explained, make_client, send_waiting
from pipeline.tracking.workspace import workspace

if TYPE_CHECKING:
    from pipeline.params import Params, Tracking

ARTIFACTS = "mlartifacts"


class Store:
    """A tracking store with the project's experiment in it.

    Args:
        uri: of the store.
        experiment: its name; created if needed.
        artifacts: folder for a new experiment's files when the store is a local database.

    Raises:
        UserError: the server does not answer, or the store cannot be used.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self.client = make_client(uri)
        with explained(uri):
            self.experiment_id = self._experiment(experiment, artifacts)
            send_waiting(uri, self.client)
            self._end_dead_runs()

    def _experiment(self, name: str, artifacts: Path | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            local = self.uri.startswith("sqlite") and artifacts is not None
            location = artifacts.resolve().as_uri() if local and artifacts else None
            return self.client.create_experiment(name, artifact_location=location)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _end_dead_runs(self) -> None:
        """Mark as killed the runs whose process on this machine is gone."""
        running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            host, _, process = run.data.tags.get(PROCESS, "").partition("/")
            if host == socket.gethostname() and not is_alive(process):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> Run:
        """Open a run.

        Args:
            name: for display.
            params: plain values, nested or not.
            tags: by name.
            parent: id of the run that it is nested under.
        """
        tags = {**tags, **process_tags(), **({"mlflow.parentRunId": parent} if parent else {})}
        with explained(self.uri):
            made = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
            run = Run(Address(self.uri, made.info.run_id, self.experiment_id), self.client)
            run.log_params(params)
        return run

    def reopen(self, run_id: str) -> Run:
        """Continue a run that was interrupted, or that another stage began.

        Raises:
            UserError: the store has no such run.
        """
        with explained(self.uri):
            self.client.get_run(run_id)
            self.client.update_run(run_id, status="RUNNING")
            self.client.set_tag(run_id, PROCESS, process_tags()[PROCESS])
        return Run(Address(self.uri, run_id, self.experiment_id), self.client)

    def end_children(self, parent: str) -> None:
        """Mark as killed the runs nested under one that are still open."""
        query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.experiment_id], query):
            self.client.set_terminated(run.info.run_id, "KILLED")

    def has(self, run_id: str) -> bool:
        """Whether the store knows the run."""
        from mlflow.exceptions import MlflowException

        if not run_id:
            return False
        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException:
            return False


def connect(
    tracking: Tracking, root: Path | None = None, *, optional: bool = False
) -> Store | None:
    """Open the store, or None when tracking is off.

    Args:
        tracking: section of params.yaml.
        root: the project's folder; the working one by default.
        optional: if a server does not answer, print a note and return None.

    Raises:
        UserError: the server does not answer within seconds, or the store cannot be used.
    """
    if not tracking.enabled:
        return None
    root = workspace(root)
    uri = default_uri(root)
    try:
        check_answers(uri)
    except UserError as error:
        if not optional:
            raise
        sys.stderr.write(f"continuing without tracking; the next start sends the rest: {error}\n")
        return None
    with _one_at_a_time(root) if uri.startswith("sqlite") else contextlib.nullcontext():
        if uri == own_uri(root):
            _mend_addresses(root)
        return Store(uri, tracking.experiment, root / ARTIFACTS)


def _mend_addresses(root: Path) -> None:
    try:
        former = mend(root / DATABASE, root / ARTIFACTS)
    except sqlite3.Error as error:
        raise UserError(
            f"{root / DATABASE} cannot be read: {error}; move it away to start a new one"
        ) from error
    if former is not None:
        sys.stderr.write(
            f"note: this project was at {former.parent}; its MLflow runs now have their files "
            f"in {root / ARTIFACTS}\n"
        )


def open_run(
    store: Store | None,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    parent: str | None = None,
    former: str | None = None,
) -> Run:
    """A new run, or the earlier one if the store still has it; does nothing without a store."""
    if store is None:
        return NoRun()
    if former is not None and store.has(former):
        return store.reopen(former)
    return store.start(name, params, tags, parent)


def log_evaluation(
    params: Params,
    run_id: str | None,
    metrics: Mapping[str, Mapping[str, float | None]],
    *,
    step: int = 0,
    tags: Mapping[str, str] | None = None,
    artifacts: Sequence[Path] = (),
) -> None:
    """Add an evaluation's figures to the run of the training whose weights it used.

    Args:
        params: for the store.
        run_id: from ``run.json`` of the training; None or unknown to the store: nothing is logged.
        metrics: task -> name -> figure, logged as ``segm/AP`` and so on.
        step: training steps of the weights.
        tags: such as evaluator and version.
        artifacts: files and folders to keep with the run, under ``evaluate``.
    """
    if not run_id or not params.tracking.enabled:
        return
    store = connect(params.tracking, optional=True)
    if store is None:  # unavailable: kept for later, with the run's final status
        run = Run(Address(default_uri(), run_id, ""))
        _log_evaluation(run, metrics, step, tags or {}, artifacts)
    elif store.has(run_id):
        with store.reopen(run_id) as run:
            _log_evaluation(run, metrics, step, tags or {}, artifacts)


def _log_evaluation(
    run: Run,
    metrics: Mapping[str, Mapping[str, float | None]],
    step: int,
    tags: Mapping[str, str],
    artifacts: Sequence[Path],
) -> None:
    run.log_metrics(figures_by_name(metrics), step)
    run.set_tags(tags)
    run.log_artifacts(artifacts, "evaluate")


def download_evaluation(run_id: str, target: Path) -> Path:
    """Fetch the files that `log_evaluation` stored with a run.

    Args:
        run_id: in the store ``MLFLOW_TRACKING_URI``, else the project's own.
        target: destination folder, created if missing.

    Returns:
        The folder with the files.

    Raises:
        UserError: the server does not answer, or the store has no such run or files.
    """
    uri = default_uri()
    check_answers(uri)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with explained(uri):
            return Path(make_client(uri).download_artifacts(run_id, "evaluate", str(target)))
    except OSError as error:
        raise UserError(f"MLflow run {run_id} at {uri} has no evaluation: {error}") from error


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """A lock, since two processes creating or migrating one database at once corrupt it."""
    with (root / ".mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
