"""Ray: this machine or a cluster, for work in several processes."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condinst.errors import UserError

if TYPE_CHECKING:
    from pipeline.params import Ray

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it takes Ctrl-C for the end of a sweep
    "RAY_DEDUP_LOGS": "0",  # it merges progress lines of trials that differ only in numbers
}
_TRIES = 3


@contextlib.contextmanager
def connected(settings: Ray, cpus: int | None = None) -> Iterator[None]:
    """Connect to our own Ray on this machine or to the cluster at ``ray.address``, then leave.

    Args:
        settings: section of params.yaml.
        cpus: how many our own Ray may use; all by default.

    Raises:
        UserError: the cluster does not answer.
    """
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    import ray

    root = str(Path(__file__).resolve().parent.parent)
    quiet = "ignore::FutureWarning,ignore::DeprecationWarning"  # from libraries, when imported
    options: dict[str, Any] = {
        "logging_level": "warning",
        "runtime_env": {
            "env_vars": {"PYTHONPATH": root, "PYTHONWARNINGS": quiet},
            "worker_process_setup_hook": "pipeline.cluster.hush",
        },
    }
    if settings.address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    else:
        options |= {"address": settings.address}
    for attempt in range(_TRIES):
        try:
            ray.init(**options)
            break
        except Exception as error:  # Ray also raises bare ones
            ray.shutdown()
            slow = settings.address is None and "timed out" in str(error)
            if not slow or attempt + 1 == _TRIES:
                raise UserError(_unreachable(settings, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _unreachable(settings: Ray, error: Exception) -> str:
    if settings.address is None:
        return f"Ray did not start on this machine: {error}"
    return (
        f"ray.address = {settings.address}: no Ray cluster answers there ({error}); start one "
        "(`ray start --head`), correct the address, or set it to null for this machine"
    )


def hush() -> None:
    """Keep Ray Train's processes from repeating what the training itself prints."""
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)


def inside() -> bool:
    """Whether this process is already connected to Ray, as a study's task is."""
    import ray

    return ray.is_initialized()


def ready(workers: int, *, gpu: bool, seconds: float) -> None:
    """Wait until Ray has room for this many workers.

    Args:
        workers: each takes a CPU.
        gpu: whether each also takes a GPU.
        seconds: maximum wait.

    Raises:
        UserError: there is no room by then.
    """
    import ray

    wanted = {"CPU": workers, **({"GPU": workers} if gpu else {})}
    end = time.monotonic() + seconds
    while True:
        found = ray.cluster_resources()
        if all(found.get(name, 0) >= count for name, count in wanted.items()):
            return
        if time.monotonic() > end:
            break
        time.sleep(1)
    there = " and ".join(f"{found.get(name, 0):g} {name}s" for name in wanted)
    asked = " and ".join(f"{count} {name}s" for name, count in wanted.items())
    raise UserError(
        f"after waiting {seconds:g} s (CONDINST_RENDEZVOUS_SECONDS), Ray has {there}, but the "
        f"training needs {asked}; add machines, lower train.num_gpus (num_processes), or let it "
        "start with fewer: train.min_workers"
    )


class Faults:
    """An actor that knows why the workers gave up, so that Ray does not retry that.

    Ray restarts workers whatever ended them; an error that the user must fix would end them again.
    """

    def __init__(self) -> None:
        self._text = ""
        self._lives = 0

    def tell(self, text: str) -> None:
        """Keep the first."""
        self._text = self._text or text

    def text(self) -> str:
        """The text that was reported, or nothing."""
        return self._text

    def begin(self) -> int:
        """Count the starts of the first worker."""
        self._lives += 1
        return self._lives


def storage_of(path: str) -> tuple[Any, str]:
    """A pyarrow file system and the path on it, created if missing.

    Args:
        path: a folder, or a URL that pyarrow (``s3://``, ``gs://``, ``hdfs://``) or fsspec knows.

    Raises:
        UserError: neither knows it, or it cannot be written to.
    """
    from pyarrow import fs

    try:
        filesystem, inner = fs.FileSystem.from_uri(path if "://" in path else Path(path).resolve())
    except Exception:  # unknown to pyarrow; fsspec knows more
        filesystem, inner = _by_fsspec(path)
    try:
        filesystem.create_dir(inner, recursive=True)
    except Exception as error:  # every service raises its own
        first = str(error).partition("\n")[0]
        raise UserError(f"ray.storage = {path}: cannot be written to ({first})") from error
    return filesystem, inner


def _by_fsspec(path: str) -> tuple[Any, str]:
    import fsspec
    from pyarrow import fs

    try:
        filesystem, inner = fsspec.core.url_to_fs(path)
    except Exception as error:  # an unknown protocol, or its package is missing
        raise UserError(
            f"ray.storage = {path}: {error}; give a folder, s3://bucket/path, gs://bucket/path, or "
            "an fsspec URL whose package is installed"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), inner


def tasks(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], *, cpus: float, gpus: float
) -> Iterator[tuple[int, Any]]:
    """Run ``work(*job)`` for every job, as many at a time as fit.

    A job whose worker dies is retried; one that fails for good does not stop the others.

    Args:
        work: importable by name.
        jobs: picklable arguments.
        cpus: per job.
        gpus: per job.

    Yields:
        Index of the job, and its result or the exception that ended it, as they finish.
    """
    import ray

    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_TRIES)(work)
    numbers = {remote.remote(*job): number for number, job in enumerate(jobs)}
    waiting = list(numbers)
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        try:
            found = ray.get(done)
        except ray.exceptions.RayError as error:
            found = error
        yield numbers[done], found
