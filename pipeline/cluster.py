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
    "RAY_DEDUP_LOGS": "0",  # it takes progress of two trials, equal but for numbers, for one line
}
_TRIES = 3


@contextlib.contextmanager
def connected(settings: Ray, cpus: int | None = None) -> Iterator[None]:
    """A Ray of our own on this machine, or the cluster at ``ray.address``; left at the end.

    Args:
        settings: section of params.yaml.
        cpus: that an own Ray may use; all by default.

    Raises:
        UserError: the cluster does not answer.
    """
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    import ray

    root = str(Path(__file__).resolve().parent.parent)
    quiet = "ignore::FutureWarning,ignore::DeprecationWarning"  # of the libraries, when imported
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
        except Exception as error:  # Ray raises bare ones too
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
    """Keep Ray Train's processes from telling what the training itself tells."""
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)


def inside() -> bool:
    """Whether this process is connected to a Ray already, as a study's task is."""
    import ray

    return ray.is_initialized()


def ready(workers: int, *, gpu: bool, seconds: float) -> None:
    """Wait until Ray has room for so many workers.

    Args:
        workers: each takes a CPU.
        gpu: and a GPU.
        seconds: to wait at most.

    Raises:
        UserError: it has not by then.
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
        f"Ray has {there}, but the training needs {asked}, after {seconds:g} s of waiting "
        "(CONDINST_RENDEZVOUS_SECONDS); add machines, lower train.num_gpus (num_processes), or let "
        "it start with fewer: train.min_workers"
    )


class Faults:
    """An actor that knows why the workers gave up, so that Ray does not try that again.

    Ray starts workers again whatever ended them; what a user must mend ends them once more.
    """

    def __init__(self) -> None:
        self._text = ""
        self._lives = 0

    def tell(self, text: str) -> None:
        """Keep the first."""
        self._text = self._text or text

    def text(self) -> str:
        """What was told, or nothing."""
        return self._text

    def begin(self) -> int:
        """Count the lives of the first worker."""
        self._lives += 1
        return self._lives


def storage_of(path: str) -> tuple[Any, str]:
    """A file system of pyarrow's and the path on it, made if missing.

    Args:
        path: a folder, or an address that pyarrow (``s3://``, ``gs://``, ``hdfs://``) or fsspec
            knows.

    Raises:
        UserError: nobody knows it, or it cannot be written to.
    """
    from pyarrow import fs

    try:
        filesystem, inner = fs.FileSystem.from_uri(path if "://" in path else Path(path).resolve())
    except Exception:  # unknown to pyarrow: fsspec has more
        filesystem, inner = _by_fsspec(path)
    try:
        filesystem.create_dir(inner, recursive=True)
    except Exception as error:  # every service has its own
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
            "an address of fsspec whose package is installed"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), inner


def tasks(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], *, cpus: float, gpus: float
) -> Iterator[tuple[int, Any]]:
    """Run ``work(*job)`` for every job, as many at a time as fit.

    A job whose worker dies is tried again; one that fails for good does not stop the others.

    Args:
        work: importable by name.
        jobs: picklable arguments.
        cpus: that one job takes.
        gpus: likewise.

    Yields:
        Number of the job, and its result or the exception that ended it, as they come.
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
