"""How the workers of a training find each other, and what they report when they cannot.

Every worker enters its rank in a store kept by the first one (or by torchrun's agent). A worker
that waits in vain reports which ranks are missing; a duplicate rank or a different number of
workers stops all of them at once instead of leaving them to wait.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import os
import socket
import time

import torch
import torch.distributed as dist
from detectron2.utils import comm

from condinst.errors import PassingError, UserError

SECONDS = "CONDINST_RENDEZVOUS_SECONDS"
_DEFAULT_SECONDS = 300.0
# The first process evaluates while the others wait; a dead worker is noticed at once anyway.
_SILENCE = dt.timedelta(hours=2)
_LINGER = 1.0  # seconds that the store's host stays after an error, for the others to read it
_rounds = itertools.count()
_stores: dict[Worker, dist.TCPStore] = {}


@dataclasses.dataclass(frozen=True)
class Worker:
    """One process of a training.

    Attributes:
        rank: its number among all.
        world_size: how many there are.
        local_rank: its number on its machine.
        local_size: how many there are on its machine.
        host: where the store is.
        port: its port.
        agent: whether torchrun's agent keeps the store, not the worker of rank 0.
        attempt: how often torchrun has restarted the workers.
        device: the number of its GPU; ``local_rank`` by default.
    """

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    host: str
    port: int
    agent: bool = False
    attempt: str = "0"
    device: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: a rank is outside its range.
        """
        for name, rank, size in (
            ("rank", self.rank, self.world_size),
            ("local rank", self.local_rank, self.local_size),
        ):
            if not 0 <= rank < size:
                raise UserError(
                    f"{name} {rank}: with {size} worker{'' if size == 1 else 's'} it must be from "
                    f"0 to {size - 1}; check RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE"
                )


def torchrun_worker() -> Worker | None:
    """This process as torchrun (or a Slurm script) describes it; None without either.

    Raises:
        UserError: a variable is not a number, or a rank is outside its range.
    """
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if any(name not in os.environ for name in names):
        return None

    def number(name: str, default: str | None = None) -> int:
        text = os.environ.get(name, default)
        try:
            return int(text or "")
        except ValueError as error:
            raise UserError(f"{name} = {text!r} must be a whole number") from error

    rank, world = number("RANK"), number("WORLD_SIZE")
    return Worker(
        rank=rank,
        world_size=world,
        local_rank=number("LOCAL_RANK", str(rank)),
        local_size=number("LOCAL_WORLD_SIZE", str(world)),
        host=os.environ["MASTER_ADDR"],
        port=number("MASTER_PORT"),
        agent=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )


def join(worker: Worker, *, gpu: bool) -> None:
    """Meet the other workers and form detectron2's process groups with them.

    Args:
        worker: this process.
        gpu: NCCL and its own GPU, else gloo.

    Raises:
        UserError: the workers do not meet; says which are missing or wrong.
    """
    seconds = patience()
    # kept across rounds: else a fast worker finds the previous round's store as it closes
    store = _stores.get(worker) or _open_store(worker, seconds)
    _stores[worker] = store
    prefix = f"condinst/{worker.attempt}/{next(_rounds)}"
    _meet(worker, dist.PrefixStore(prefix, store), seconds)
    if gpu:
        torch.cuda.set_device(worker.local_rank if worker.device is None else worker.device)
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        store=dist.PrefixStore(f"{prefix}/group", store),
        rank=worker.rank,
        world_size=worker.world_size,
        timeout=_SILENCE,
    )
    if comm._LOCAL_PROCESS_GROUP is None:
        comm.create_local_process_group(worker.local_size)
    comm.synchronize()


def leave() -> None:
    """Destroy the process groups."""
    dist.destroy_process_group()
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()


def patience() -> float:
    """Seconds for which workers wait for each other.

    Raises:
        UserError: CONDINST_RENDEZVOUS_SECONDS is not a number above 0.
    """
    text = os.environ.get(SECONDS, str(_DEFAULT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"{SECONDS} = {text!r} must be a number of seconds above 0")
    return seconds


def _open_store(worker: Worker, seconds: float) -> dist.TCPStore:
    keeps = worker.rank == 0 and not worker.agent
    try:
        return dist.TCPStore(
            worker.host,
            worker.port,
            is_master=keeps,
            timeout=dt.timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        where = f"{worker.host}:{worker.port}"
        if keeps:
            raise UserError(
                f"rank 0 cannot listen at {where}: {_first_line(error)}. The port may be in use, "
                "by another training or by a second worker of rank 0, or the address may not be "
                "this machine's; choose another port (--dist-url, MASTER_PORT)"
            ) from error
        raise PassingError(
            f"rank {worker.rank} waited {seconds:g} s ({SECONDS}) for rank 0 at {where}, which did "
            f"not answer ({_first_line(error)}); check that it runs, the address and the firewall"
        ) from error


def _meet(worker: Worker, store: dist.Store, seconds: float) -> None:
    """Enter this worker's rank and wait for all others."""
    keeps = worker.rank == 0 and not worker.agent
    try:
        _enter(worker, store)
        _wait(worker, store, seconds)
    except UserError as error:
        _tell(store, str(error), keeps=keeps)
        raise
    except RuntimeError as error:
        raise PassingError(
            f"rank {worker.rank}: the host of the store at {worker.host}:{worker.port} went away "
            f"({_first_line(error)}); see the output of rank 0"
        ) from error


def _tell(store: dist.Store, fault: str, *, keeps: bool) -> None:
    """Tell the others why the workers will not meet."""
    try:
        store.set("fault", fault)
    except RuntimeError:
        return  # nobody to tell
    if keeps:
        time.sleep(_LINGER)


def _enter(worker: Worker, store: dist.Store) -> None:
    me = f"{socket.gethostname()}, process {os.getpid()}"
    world = store.compare_set("world", "", str(worker.world_size)).decode()
    if world != str(worker.world_size):
        raise UserError(
            f"rank {worker.rank} ({me}) was started for {worker.world_size} workers, others for "
            f"{world}: give all machines the same --num-machines and --num-gpus (--num-processes)"
        )
    if store.add(f"count/{worker.rank}", 1) > 1:
        other = store.get(f"who/{worker.rank}").decode()
        raise UserError(
            f"two workers have rank {worker.rank}: {other}; and {me}. Give each machine its own "
            "--machine-rank (RANK for a worker)"
        )
    store.set(f"who/{worker.rank}", me)


def _wait(worker: Worker, store: dist.Store, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    missing = list(range(worker.world_size))
    while missing:
        if store.check(["fault"]):
            raise UserError(store.get("fault").decode())
        missing = [rank for rank in missing if not store.check([f"who/{rank}"])]
        if missing and time.monotonic() > deadline:
            names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            raise PassingError(
                f"rank {worker.rank} waited {seconds:g} s ({SECONDS}) for {len(missing)} of "
                f"{worker.world_size} workers: nothing from rank {names}; check that every machine "
                "was started with the same address and its own --machine-rank"
            )
        if missing:
            time.sleep(0.05)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
