"""Training through Ray Train: on this machine or a cluster, restarted when workers are lost.

Ray starts and watches the workers; they meet as torchrun's do (`condinst.engine.rendezvous`), so
that the training itself is the same as with any other launcher.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import torch
import torch.distributed as dist
from detectron2.engine import HookBase

from condinst import engine
from condinst.cores import available_cores
from condinst.engine import rendezvous
from condinst.errors import UserError
from pipeline.cluster import Faults, connected, hush, ready, storage_of
from pipeline.train.ray_store import BEST, RESULT, CheckpointStore, take

if TYPE_CHECKING:
    from pipeline.params import Ray, Train
    from pipeline.train.job import Job

_SILENCE = str(24 * 3600)  # seconds before Ray warns that idle workers wait for others


@dataclasses.dataclass(frozen=True)
class Plan:
    """How Ray should run a training.

    Attributes:
        folder: of the run, under the same path on every machine.
        fewest: number of workers to continue with while no more are available.
        most: number of workers to use.
        gpu: whether each has its own GPU.
        images: per step; workers that would have to share one stay idle.
        threads: per worker on a CPU.
        stores: whether checkpoints go to ``ray.storage``; else ``folder`` is on every machine.
        root: path of the project, here and on every machine.
    """

    folder: Path
    fewest: int
    most: int
    gpu: bool
    images: int
    threads: int
    stores: bool
    root: Path


def train_on_ray(job: Job, train: Train, settings: Ray, hooks: Sequence[HookBase] = ()) -> None:
    """Run a training on Ray Train; its results are then in its folder here.

    Losing a worker restarts all of them from the last checkpoint.

    Args:
        job: the training; its data is under the same path on every machine.
        train: how many workers, and whether on GPUs.
        settings: section of params.yaml.
        hooks: additional hooks, in every worker.

    Raises:
        UserError: there are too few workers, too many were lost, or a worker raised it.
    """
    from pipeline.train.job import load_cfg

    cfg = load_cfg(job.config)
    most = train.num_gpus or train.num_processes
    plan = Plan(
        folder=Path(cfg.OUTPUT_DIR),
        fewest=train.min_workers or most,
        most=most,
        gpu=train.num_gpus > 0,
        images=cfg.SOLVER.IMS_PER_BATCH,
        threads=int(os.environ.get("OMP_NUM_THREADS", 0)) or (1 if most > 1 else 0),
        stores=settings.storage is not None,
        root=Path.cwd(),
    )
    run_on_ray(_train, (job, tuple(hooks), cfg.SOLVER.CHECKPOINT_PERIOD), plan, settings)
    if engine.TrainResult.load(plan.folder) is None:
        raise UserError(
            f"the training on Ray ended, but its result is not in {plan.folder}: with workers on "
            "other machines, put .runs on a disk that all of them share, or set ray.storage"
        )


def run_on_ray(main: Callable[..., None], args: tuple[Any, ...], plan: Plan, settings: Ray) -> None:
    """Call ``main(*args)`` in every worker, and again after each loss of a worker.

    Args:
        main: importable by name on every machine.
        args: picklable.
        plan: for the workers.
        settings: section of params.yaml.

    Raises:
        UserError: a worker raised it, or workers were lost more often than ``ray.failures``.
    """
    storage = storage_of(settings.storage or str(plan.folder / "ray"))
    os.environ.setdefault("RAY_TRAIN_COLLECTIVE_WARN_INTERVAL_S", _SILENCE)
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(rendezvous.patience()))
    with connected(settings, cpus=None if plan.gpu else plan.most):
        import ray
        from ray.train import TrainingFailedError

        ready(plan.fewest, gpu=plan.gpu, seconds=rendezvous.patience())
        faults = ray.remote(num_cpus=0)(Faults).remote()
        # as bytes, which Ray's own processes do not unpack, so they need no torch
        config = {"packed": cloudpickle.dumps((plan, main, args)), "faults": faults}
        trainer = _trainer(plan, settings, config, storage)
        # in a thread of its own, else Ray catches Ctrl-C itself and exits with status 0
        pool = ThreadPoolExecutor(1)
        try:
            result = pool.submit(trainer.fit).result()
        except TrainingFailedError as error:
            raise UserError(ray.get(faults.text.remote()) or _failure(error, settings)) from error
        finally:
            pool.shutdown(wait=False)
        fault = ray.get(faults.text.remote())
        if plan.stores and result.checkpoint is not None:
            take(result.checkpoint, plan.folder)
        if fault:
            raise UserError(fault)


def _trainer(plan: Plan, settings: Ray, config: dict[str, Any], storage: tuple[Any, str]) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    filesystem, path = storage
    elastic = plan.fewest < plan.most
    return TorchTrainer(
        _worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if plan.gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(plan.fewest, plan.most) if elastic else plan.most,
            use_gpu=plan.gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if plan.gpu else {"CPU": 1},
        ),
        run_config=RunConfig(
            name=plan.folder.name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=settings.failures, controller_failure_limit=settings.failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _worker(config: dict[str, Any]) -> None:
    """One of Ray's workers, between two restarts."""
    import ray
    from ray import train as ray_train

    hush()
    faults = config["faults"]
    if ray.get(faults.text.remote()):
        return
    plan, main, args = cloudpickle.loads(config["packed"])  # from our own driver
    if plan.root.is_dir():
        os.chdir(plan.root)
    context = ray_train.get_context()
    rank, found = context.get_world_rank(), context.get_world_size()
    if rank == 0:
        _say_life(ray.get(faults.begin.remote()), found, plan)
    active = max(n for n in range(1, found + 1) if plan.images % n == 0)
    meeting = _meeting_point(rank)
    if rank >= active:
        _stay_idle(plan)
        return
    _meet(plan, rank, active, meeting, context.get_local_rank())
    parts = engine.saved_parts(plan.folder)
    try:
        main(*args)
    except UserError as error:
        if (
            engine.saved_parts(plan.folder) <= parts
        ):  # else smaller micro-batches may fit into memory
            ray.get(faults.tell.remote(str(error)))
        if not isinstance(error, engine.TimeUpError):  # which all workers raise together
            raise
    except Exception as error:
        lost = engine.is_lost_connection(error)
        sys.stderr.write("train: another worker is gone\n" if lost else traceback.format_exc())
        raise
    if plan.stores:
        CheckpointStore.tell_idle(more=False)
    if active > 1:
        rendezvous.leave()


def _say_life(life: int, found: int, plan: Plan) -> None:
    if life > 1:
        sys.stderr.write(f"train: Ray has restarted {found} workers (life {life})\n")
    elif found < plan.most:
        sys.stderr.write(f"train: {found} of {plan.most} workers are available\n")
    sys.stderr.flush()


def _meeting_point(rank: int) -> tuple[str, int]:
    """Address of the first worker's store, in every worker."""
    from ray.train.collective import broadcast_from_rank_zero
    from ray.util import get_node_ip_address

    host, port = get_node_ip_address(), 0
    if rank == 0:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
    return broadcast_from_rank_zero((host, port))


def _meet(plan: Plan, rank: int, size: int, meeting: tuple[str, int], local_rank: int) -> None:
    """Leave Ray's process group of all workers; form one of those that train."""
    if dist.is_initialized():
        dist.destroy_process_group()
    if not plan.gpu:
        torch.set_num_threads(plan.threads or available_cores())
    if size > 1:
        host, port = meeting
        worker = rendezvous.Worker(rank, size, 0, 1, host, port, device=local_rank)
        rendezvous.join(worker, gpu=plan.gpu)


def _stay_idle(plan: Plan) -> None:
    """Take part in Ray's collective calls until the training ends."""
    from ray import train as ray_train
    from ray.train.collective import broadcast_from_rank_zero

    while plan.stores and broadcast_from_rank_zero(None):
        ray_train.report({})


def _train(job: Job, hooks: Sequence[HookBase], period: int) -> None:
    from pipeline.train.job import load_cfg, train_job

    store = CheckpointStore(Path(load_cfg(job.config).OUTPUT_DIR), period)
    if not job.stores:
        train_job(job, hooks)
        return
    store.fetch()
    try:
        train_job(job, [*hooks, store])
    except engine.TimeUpError:
        store.send(BEST)
        raise
    store.send(BEST, *RESULT)


def _failure(error: Exception, settings: Ray) -> str:
    """What ended the workers, unwrapped from Ray's exceptions."""
    inner: BaseException = error
    for failure in getattr(error, "worker_failures", {}).values():
        inner = getattr(failure, "cause", None) or failure
    if getattr(error, "controller_failure", None) is not None:
        inner = error.controller_failure  # pyrefly: ignore[missing-attribute]
    first = f"{type(inner).__name__}: {inner}".strip().partition("\n")[0]
    return (
        f"the training on Ray ended after {settings.failures} restarts (ray.failures): {first}. "
        "The same command resumes from the last checkpoint"
    )
