"""MLflow: one run a training, nested under a study's or a sweep's. Nothing else imports mlflow.

The store is ``MLFLOW_TRACKING_URI`` or the project's own ``mlflow.db``. A run is always ended: by
its context, or, when the process was killed, by the next one that opens the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condinst.errors import UserError
from pipeline.provenance import (
    PROCESS,
    common_tags,
    figures_by_name,
    flatten,
    git_commit,
    is_alive,
    process_tags,
)
from pipeline.tracking_address import Address, check_answers, compare_url, default_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipeline.params import Params, Tracking

__all__ = [
    "Address",
    "NoRun",
    "Run",
    "Store",
    "check_answers",
    "common_tags",
    "compare_url",
    "connect",
    "default_uri",
    "figures_by_name",
    "git_commit",
    "log_evaluation",
    "open_run",
]
logger = logging.getLogger(__name__)
_BATCH = 1000  # metrics that one request may carry
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Store:
    """A tracking store with the project's experiment in it.

    Args:
        uri: of the store.
        experiment: its name; made if need be.
        artifacts: folder for a new experiment's files when the store is a local database.

    Raises:
        UserError: the server does not answer, or the store cannot be used.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self.client = _client(uri)
        with _explained(uri):
            self.experiment_id = self._experiment(experiment, artifacts)
            self._end_dead_runs()

    def _experiment(self, name: str, artifacts: Path | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            local = self.uri.startswith("sqlite:") and artifacts is not None
            location = artifacts.resolve().as_uri() if local and artifacts else None
            return self.client.create_experiment(name, artifact_location=location)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _end_dead_runs(self) -> None:
        """End as killed the runs whose process on this machine is gone."""
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
            name: for people.
            params: plain values, nested or not.
            tags: by name.
            parent: id of the run that it is nested under.
        """
        tags = {**tags, **process_tags(), **({"mlflow.parentRunId": parent} if parent else {})}
        with _explained(self.uri):
            made = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
            run = Run(Address(self.uri, made.info.run_id, self.experiment_id), self.client)
            run.log_params(params)
        return run

    def reopen(self, run_id: str) -> Run:
        """Go on with a run that was interrupted, or that another stage began.

        Raises:
            UserError: the store has no such run.
        """
        with _explained(self.uri):
            self.client.get_run(run_id)
            self.client.update_run(run_id, status="RUNNING")
            self.client.set_tag(run_id, PROCESS, process_tags()[PROCESS])
        return Run(Address(self.uri, run_id, self.experiment_id), self.client)

    def end_children(self, parent: str) -> None:
        """End the runs nested under one that are still open, as killed."""
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


class Run:
    """An open run. As a context it ends FINISHED, FAILED on an error, KILLED on an interrupt.

    Args:
        address: where it is.
        client: of its store.
    """

    def __init__(self, address: Address, client: MlflowClient | None = None) -> None:
        self.address: Address | None = address
        self._id = address.run_id
        self._client = client or _client(address.uri)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "FINISHED"
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._try(lambda: self._client.set_terminated(self._id, status))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log values under dotted names; MLflow takes 100 a request and texts up to 6000 long."""
        from mlflow.entities import Param

        flat = [Param(key, str(value)[:6000]) for key, value in flatten(params).items()]
        for start in range(0, len(flat), 100):
            self._client.log_batch(self._id, params=flat[start : start + 100])

    def log_rows(self, rows: Sequence[Mapping[str, float]]) -> bool:
        """Log figures as series; whether the store took them.

        Args:
            rows: figures by name; ``iteration`` is the step.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(_metric_name(key), float(value), now, int(row.get("iteration", 0)))
            for row in rows
            for key, value in row.items()
            if key != "iteration" and value is not None
        ]
        batches = [metrics[i : i + _BATCH] for i in range(0, len(metrics), _BATCH)]
        return self._try(
            lambda: [self._client.log_batch(self._id, metrics=batch) for batch in batches]
        )

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log single figures; None, an undefined one, is left out."""
        known = {key: value for key, value in metrics.items() if value is not None}
        self.log_rows([{"iteration": step, **known}])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._try(lambda: [self._client.set_tag(self._id, k, str(v)) for k, v in tags.items()])

    def log_artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Store files and folders, those that exist."""
        for path in paths:
            if path.is_dir():
                inside = "/".join(part for part in (folder, path.name) if part)
                self._try(lambda p=path, f=inside: self._client.log_artifacts(self._id, str(p), f))
            elif path.exists():
                self._try(lambda p=path: self._client.log_artifact(self._id, str(p), folder))

    def _try(self, action: Any) -> bool:
        """A store that goes away must not take a training with it."""
        try:
            action()
        except Exception as error:  # mlflow raises whatever its store raises
            logger.warning("MLflow did not take a record of run %s: %s", self._id, error)
            return False
        return True


class NoRun(Run):
    """Stands where a run would, when tracking is off."""

    def __init__(self) -> None:
        self.address = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_rows(self, rows: Sequence[Mapping[str, float]]) -> bool:
        """Do nothing."""
        return True

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Do nothing."""


def connect(tracking: Tracking, root: Path | None = None) -> Store | None:
    """Open the store, or None when tracking is off.

    Args:
        tracking: section of params.yaml.
        root: the project's folder; the working one by default.

    Raises:
        UserError: the server does not answer within seconds, or the store cannot be used.
    """
    if not tracking.enabled:
        return None
    root = (root or Path.cwd()).resolve()
    uri = default_uri(root)
    check_answers(uri)
    with _one_at_a_time(root) if uri.startswith("sqlite:") else contextlib.nullcontext():
        return Store(uri, tracking.experiment, root / "mlartifacts")


def open_run(
    store: Store | None,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    parent: str | None = None,
    former: str | None = None,
) -> Run:
    """A new run, or the former one if the store still has it; does nothing without a store."""
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
    store = connect(params.tracking) if run_id else None
    if store is None or run_id is None or not store.has(run_id):
        return
    with store.reopen(run_id) as run:
        run.log_metrics(figures_by_name(metrics), step)
        run.set_tags(tags or {})
        run.log_artifacts(artifacts, "evaluate")


def download_evaluation(run_id: str, target: Path) -> Path:
    """Fetch the files that `log_evaluation` kept with a run.

    Args:
        run_id: in the store that ``MLFLOW_TRACKING_URI`` names, else the project's own.
        target: folder to fetch them into, made if missing.

    Returns:
        The folder that holds them.

    Raises:
        UserError: the server does not answer, or the store has no such run or files.
    """
    uri = default_uri()
    check_answers(uri)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with _explained(uri):
            return Path(_client(uri).download_artifacts(run_id, "evaluate", str(target)))
    except OSError as error:
        raise UserError(f"MLflow run {run_id} at {uri} keeps no evaluation: {error}") from error


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Two processes that create or migrate one database at once spoil it."""
    with (root / ".mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise UserError(f"MLflow at {uri}: {error}") from error


def _client(uri: str) -> MlflowClient:
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _explained(uri):
        return MlflowClient(tracking_uri=uri)


def _metric_name(key: str) -> str:
    """MLflow allows letters, digits and ``_ - . / :`` and space in a metric's name."""
    return "".join(char if char.isalnum() or char in "_-./ :" else "_" for char in key)
