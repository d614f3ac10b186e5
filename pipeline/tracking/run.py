"""One MLflow run, and the client of its store."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condinst.errors import UserError
from pipeline.starting import importing
from pipeline.tracking import outbox
from pipeline.tracking.address import Address
from pipeline.tracking.names import clean_all
from pipeline.tracking.provenance import flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)
_BATCH = 1000  # metrics that one request may carry
_PAUSE = 60.0  # seconds between tries of an unavailable store
_AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "IO_ERROR")
_REFUSED = "INVALID_PARAMETER_VALUE"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}
_SERVED_WITH = ("torch", "torchvision", "numpy", "pillow", "pycocotools")
_away_until: dict[str, float] = {}  # store -> when to try it again


class Run:
    """An open run. As a context it ends FINISHED, FAILED on an error, KILLED on an interrupt.

    While the store is unavailable, records are kept on disk (see `pipeline.tracking.outbox`) and
    sent as soon as it is back: by this run, or by the next command that opens the store.

    Args:
        address: where it is.
        client: of its store.
    """

    def __init__(self, address: Address, client: MlflowClient | None = None) -> None:
        self.address: Address | None = address
        self._uri = address.uri
        self._id = address.run_id
        self._client = client or make_client(address.uri)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "FINISHED"
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._record("end", {"status": status, "time": int(time.time() * 1000)})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log values under dotted names; MLflow accepts 100 per request, texts up to 6000 long."""
        values = flatten(params)
        names = clean_all(values)
        flat = [[names[key], str(value)[:6000]] for key, value in values.items()]
        for start in range(0, len(flat), 100):
            self._record("params", flat[start : start + 100])

    def log_rows(self, rows: Sequence[Mapping[str, float]]) -> bool:
        """Log figures as metrics; returns whether the store, or else the disk, accepted them.

        Args:
            rows: figures by name; ``iteration`` is the step.
        """
        now = int(time.time() * 1000)
        names = clean_all(key for row in rows for key in row)
        metrics = [
            [names[key], float(value), now, int(row.get("iteration", 0))]
            for row in rows
            for key, value in row.items()
            if key != "iteration" and value is not None
        ]
        batches = [metrics[i : i + _BATCH] for i in range(0, len(metrics), _BATCH)]
        taken = [self._record("metrics", batch) for batch in batches]
        return all(taken)

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log single figures; undefined ones (None) are left out."""
        known = {key: value for key, value in metrics.items() if value is not None}
        self.log_rows([{"iteration": step, **known}])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        names = clean_all(tags)
        self._record("tags", {names[key]: str(value) for key, value in tags.items()})

    def log_artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Store the files and folders that exist."""
        for path in paths:
            if path.exists():
                self._record("files", {"path": str(path), "folder": folder})

    def log_model(self, weights: Path, config: Path) -> None:
        """Store a trained model so that ``mlflow.pyfunc.load_model`` predicts on images.

        No pickle is written: `pipeline.predict.served_model` loads weights and config.
        """
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as name:
            warnings.simplefilter("ignore")  # MLflow warns about types in its own modules
            from mlflow import pyfunc

            data, model = Path(name) / "data", Path(name) / "model"
            data.mkdir()
            for source, target in ((weights, "model.pth"), (config, "config.yaml")):
                shutil.copyfile(source, data / target)
            # MLflow warns that pip is missing, but whatever serves the model has its own.
            logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
            pyfunc.save_model(
                path=str(model),
                loader_module="pipeline.predict.served_model",
                data_path=str(data),
                pip_requirements=[f"{package}=={version(package)}" for package in _SERVED_WITH],
            )
            self.log_artifacts([model])

    def watch(self) -> Any:
        """Start recording use of CPU, memory, disk, network and GPU; ``finish`` ends it."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        monitor = SystemMetricsMonitor(self._id, resume_logging=True, tracking_uri=self._uri)
        monitor.start()
        return monitor

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Log the dataset that the run used; ``context`` is, for example, ``training``."""
        value = {"name": name, "digest": digest, "source": source, "context": context}
        self._record("dataset", value)

    def _record(self, kind: str, value: Any) -> bool:
        """Send a record to the store, or keep it on disk while the store is unavailable."""
        if outbox.waiting(self._uri) and time.monotonic() >= _away_until.get(self._uri, 0.0):
            send_waiting(self._uri, self._client)
        if not outbox.waiting(self._uri) and self._deliver(kind, value):
            return True
        try:
            outbox.put(self._uri, self._id, kind, value)
        except (OSError, UserError) as error:
            logger.warning("A record of run %s was neither sent nor kept: %s", self._id, error)
            return False
        return True

    def _deliver(self, kind: str, value: Any) -> bool:
        return deliver(self._client, self._uri, self._id, kind, value)


class NoRun(Run):
    """Takes the place of a run when tracking is off."""

    def __init__(self) -> None:
        self.address = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Do nothing."""

    def log_model(self, weights: Path, config: Path) -> None:
        """Do nothing."""

    def log_rows(self, rows: Sequence[Mapping[str, float]]) -> bool:
        """Do nothing."""
        return True

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Do nothing."""


def send_waiting(uri: str, client: MlflowClient) -> tuple[int, int]:
    """Send what an outage left on disk; returns how many records were sent and still wait."""
    return outbox.send(
        uri,
        lambda record: deliver(client, uri, record["run_id"], record["kind"], record["value"]),
    )


def deliver(client: MlflowClient, uri: str, run_id: str, kind: str, value: Any) -> bool:
    """Send a record to the store; returns whether it is done.

    A record that the store rejects for good is done as well, with a warning; False means that the
    store is unavailable: it is then not tried for a while.
    """
    try:
        write(client, run_id, kind, value)
    except Exception as error:  # mlflow raises whatever its store raises
        code = getattr(error, "error_code", "INTERNAL_ERROR")
        if code in _AWAY:
            if _away_until.get(uri, 0.0) <= time.monotonic():
                reason = _reason(error)
                logger.warning(
                    "MLflow at %s is unavailable (%s); its records are kept", uri, reason
                )
            _away_until[uri] = time.monotonic() + _PAUSE
            return False
        if code == _REFUSED and len(halves := _halves(kind, value)) == 2:
            # MLflow rejects all for the sake of one: the others should still arrive.
            return all(deliver(client, uri, run_id, kind, half) for half in halves)
        logger.warning("MLflow did not accept a record (%s) of run %s: %s", kind, run_id, error)
    return True


def _halves(kind: str, value: Any) -> list[Any]:
    """Split a record of several values into two; nothing for a single value."""
    values = list(value.items()) if kind == "tags" else value
    if kind not in ("params", "metrics", "tags") or len(values) < 2:
        return []
    middle = len(values) // 2
    halves = [values[:middle], values[middle:]]
    return [dict(half) for half in halves] if kind == "tags" else halves


def write(client: MlflowClient, run_id: str, kind: str, value: Any) -> None:
    """Send a record to the store; its errors are not caught."""
    _WAYS[kind](client, run_id, value)


def _send_metrics(client: MlflowClient, run_id: str, value: Any) -> None:
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(*row) for row in value])


def _send_params(client: MlflowClient, run_id: str, value: Any) -> None:
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(*row) for row in value])


def _send_tags(client: MlflowClient, run_id: str, value: Any) -> None:
    for key, text in value.items():
        client.set_tag(run_id, key, text)


def _send_files(client: MlflowClient, run_id: str, value: Any) -> None:
    path, folder = Path(value["path"]), value["folder"]
    if path.is_dir():
        inside = "/".join(part for part in (folder, path.name) if part)
        client.log_artifacts(run_id, str(path), inside)
    elif path.exists():
        client.log_artifact(run_id, str(path), folder)


def _send_dataset(client: MlflowClient, run_id: str, value: Any) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    made = Dataset(value["name"], value["digest"], "local", value["source"])
    tag = InputTag("mlflow.data.context", value["context"])
    client.log_inputs(run_id, datasets=[DatasetInput(made, [tag])])


def _send_end(client: MlflowClient, run_id: str, value: Any) -> None:
    client.set_terminated(run_id, value["status"], value["time"])


_WAYS: dict[str, Callable[[MlflowClient, str, Any], None]] = {
    "metrics": _send_metrics,
    "params": _send_params,
    "tags": _send_tags,
    "files": _send_files,
    "dataset": _send_dataset,
    "end": _send_end,
}


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into UserErrors."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ImportError) as error:
        raise UserError(f"MLflow at {uri}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The reason; missing drivers (PostgreSQL, S3) are in the lock file, so `make setup` helps."""
    if isinstance(error, ImportError):
        return f"the package {error.name} is missing; `make setup` installs it"
    return str(error)


def make_client(uri: str) -> MlflowClient:
    """A client for the store; the first one imports MLflow, which takes seconds."""
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with importing():
        from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with explained(uri):
        return MlflowClient(tracking_uri=uri)
