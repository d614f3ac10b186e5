"""Ray: this machine or a cluster, for work in several processes."""

from __future__ import annotations

import contextlib
import os
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
        "runtime_env": {"env_vars": {"PYTHONPATH": root, "PYTHONWARNINGS": quiet}},
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
