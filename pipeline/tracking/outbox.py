"""Records that a tracking server did not accept, kept on disk until it does.

One JSON file per record under ``.runs/outbox``, oldest first; files to upload are beside it as hard
links, so that they survive when their outputs are replaced. Does not need MLflow.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from condinst.atomic import write_json
from pipeline import runs
from pipeline.tracking.workspace import workspace

Record = dict[str, Any]
_numbers = itertools.count()


def folder(uri: str) -> Path:
    """The folder of records for a store."""
    return workspace() / runs.RUNS / "outbox" / runs.digest(uri)


def put(uri: str, run_id: str, kind: str, value: Any) -> None:
    """Keep a record.

    Args:
        uri: of the store that it is for.
        run_id: the run.
        kind: ``metrics``, ``params``, ``tags``, ``files`` or ``end``.
        value: plain; for ``files`` {"path", "folder"}.

    Raises:
        OSError, UserError: it cannot be written to disk.
    """
    place = folder(uri)
    place.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}-{next(_numbers)}"
    if kind == "files":
        source = Path(value["path"])
        kept = place / f"{name}.files" / source.name
        kept.parent.mkdir()
        _link(source, kept)
        value = {**value, "path": str(kept)}
    record = {"uri": uri, "run_id": run_id, "kind": kind, "value": value}
    write_json(place / f"{name}.json", record)


def waiting(uri: str) -> list[Path]:
    """The records waiting for a store, oldest first."""
    return sorted(folder(uri).glob("*.json"))


def send(uri: str, deliver: Callable[[Record], bool]) -> tuple[int, int]:
    """Deliver waiting records, oldest first, and remove those delivered.

    Args:
        uri: of the store.
        deliver: takes a record; returns whether the store is done with it. Sending stops at the
            first one that is not.

    Returns:
        How many were delivered, and how many still wait.
    """
    sent = 0
    with _alone(folder(uri)) as alone:
        for path in waiting(uri) if alone else ():
            if not deliver(json.loads(path.read_text())):
                break
            path.unlink()
            shutil.rmtree(path.with_suffix(".files"), ignore_errors=True)
            sent += 1
    return sent, len(waiting(uri))


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Whether no other process is sending from that folder."""
    if not place.is_dir():
        yield False
        return
    with (place / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(str(source), str(target))


def _link_file(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
