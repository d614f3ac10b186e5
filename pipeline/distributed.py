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
    environment = {"env_vars": {"PYTHONPATH": root}}
    try:
        if settings.address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=True,
                logging_level="warning",
                runtime_env=environment,
            )
        else:
            ray.init(address=settings.address, logging_level="warning", runtime_env=environment)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"ray.address = {settings.address}: no Ray cluster answers there ({error}); start one "
            "(`ray start --head`), correct the address, or set it to null for this machine"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def tasks(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], *, cpus: float, gpus: float
) -> Iterator[Any]:
    """Run ``work(*job)`` for every job, as many at a time as fit; results as they come.

    Args:
        work: importable by name.
        jobs: picklable arguments.
        cpus: that one job takes.
        gpus: likewise.
    """
    import ray

    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_TRIES)(work)
    waiting = [remote.remote(*job) for job in jobs]
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        yield ray.get(done)
