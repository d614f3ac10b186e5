"""What must be the same in all workers, compared before the first step."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.utils import comm

from condinst.atomic import write_json
from condinst.config import WITHOUT_EFFECT
from condinst.errors import UserError

T = TypeVar("T")
_ORIGIN = "origin.json"


def deciding_keys(cfg: CfgNode) -> dict[str, str]:
    """The config's dotted keys and values, without those that do not change the weights."""
    flat = _flat(cfg)
    return {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(name + ".") for name in WITHOUT_EFFECT)
    }


def _flat(node: CfgNode, prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(list(value) if isinstance(value, tuple) else value)
    return flat


def differences(ours: dict[str, str], theirs: dict[str, str], limit: int = 6) -> str:
    """``KEY: a here, b there`` for what differs."""
    keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    rows = [f"{key}: {ours.get(key)} here, {theirs.get(key)} there" for key in keys[:limit]]
    return "; ".join(rows) + ("; ..." if len(keys) > limit else "")


def check_same(what: str, values: dict[str, str]) -> None:
    """Compare plain values across workers, by hash; says which worker differs, and in what.

    Args:
        what: for the message, such as ``the config``.
        values: this worker's.

    Raises:
        UserError: in every worker, if one has other values than the first.
    """
    if comm.get_world_size() == 1:
        return
    digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()
    found = comm.all_gather((digest, socket.gethostname()))
    if len({digest for digest, _ in found}) == 1:
        return
    first, *others = comm.all_gather(values)
    rank, other = next((i, v) for i, v in enumerate(others, 1) if v != first)
    raise UserError(
        f"{what} of rank {rank} ({found[rank][1]}) differs from that of rank 0 ({found[0][1]}): "
        f"{differences(other, first)} (here: rank {rank}). All machines need the same files, "
        "parameters and data"
    )


def from_first(make: Callable[[], T]) -> T:
    """Give every worker what the first one makes, or its UserError.

    Args:
        make: called only in the first worker; its result can be pickled.
    """
    if comm.get_world_size() == 1:
        return make()
    box: list[Any] = [None, None]
    if comm.is_main_process():
        try:
            box[0] = make()
        except UserError as error:
            box[1] = str(error)
    dist.broadcast_object_list(box, src=0, group=comm._get_global_gloo_group())
    if box[1] is not None:
        raise UserError(box[1])
    return box[0]


def check_origin(folder: Path, cfg: CfgNode, *, begun: bool, elastic: bool = False) -> None:
    """Refuse to resume a training with a different config or number of workers.

    Args:
        folder: of the run; keeps ``origin.json``.
        cfg: of this call.
        begun: whether the folder has state to resume from; otherwise this call is the origin.
        elastic: accept any number of workers.

    Raises:
        UserError: they differ.
    """
    path = folder / _ORIGIN
    workers = "any" if elastic else str(comm.get_world_size())
    now = {**deciding_keys(cfg), "number of workers": workers}
    if begun and path.exists():
        former = json.loads(path.read_text())
        if former != now:
            raise UserError(
                f"{folder} has a training with another config: {differences(now, former)} (there: "
                "the checkpoint). Choose another OUTPUT_DIR, or give the same keys and workers; "
                "to start anew from its weights, set MODEL.WEIGHTS to its model.pth"
            )
        return
    write_json(path, now)
