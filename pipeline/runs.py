"""Runs and where they live: ``.runs/<hash>``, outside DVC's outputs.

The hash is the key of a training's identity (`pipeline.identity`), which has everything that
affects the weights. A run with the same hash resumes or is reused; anything else starts anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condinst.atomic import atomic_folder
from condinst.errors import UserError
from pipeline.identity import code_hash, digest, file_hash, of_training

if TYPE_CHECKING:
    from detectron2.config import CfgNode

__all__ = [
    "RUNS",
    "code_hash",
    "digest",
    "file_hash",
    "in_turn",
    "locked",
    "publish",
    "read_json",
    "run_hash",
]

RUNS = Path(".runs")


def run_hash(cfg: CfgNode, data_hash: str, **more: Any) -> str:
    """The key of a training's identity; see `pipeline.identity.of_training`."""
    return of_training(cfg, data_hash, **more).key


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes on this machine out of a folder.

    Args:
        folder: created if missing.
        wait: for the other process to end, however long that takes, with a message.

    Raises:
        UserError: another process is using it, and ``wait`` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            if not wait:
                raise UserError(
                    f"{folder} is in use by {holder}; wait for it or stop it"
                ) from error
            sys.stderr.write(f"waiting for {holder}, which is using {folder}\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(_this_process())
        file.flush()
        yield


def in_turn(stage: str) -> contextlib.AbstractContextManager[None]:
    """Wait until the same stage is no longer running in this checkout."""
    return locked(RUNS / "stages" / stage, wait=True)


def _this_process() -> str:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:120]
    return f"process {os.getpid()} ({command}, since {time.strftime('%Y-%m-%d %H:%M:%S')})"


def interrupted(what: str, done: str) -> str:
    """What Ctrl-C leaves of several trainings, in one line."""
    return (
        f"{what}: interrupted. Kept: {done}, and the checkpoints of the others. "
        "The same command goes on from there."
    )


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """A JSON file written by another stage.

    Raises:
        UserError: it is missing or damaged; the message names the stage to run.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run `python cli.py {made_by}` first") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run `python cli.py {made_by}`") from error


def publish(files: Mapping[str, Path], output: Path) -> None:
    """Make the files the whole content of an output folder, atomically.

    Args:
        files: name in the folder -> source file or folder, copied.
        output: replaced.

    Raises:
        UserError: it cannot be written to disk; the earlier folder stays.
    """
    try:
        with atomic_folder(output) as folder:
            for name, source in files.items():
                _copy(source, folder / name)
    except OSError as error:
        raise UserError(f"{output} could not be written: {error}; is the disk full?") from error


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
