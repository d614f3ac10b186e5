"""Runs and where they live: ``.runs/<hash>``, outside DVC's outputs.

The hash covers all that decides the weights: resolved config, data, the code that trains and the
libraries under it. The same hash goes on or is used again; anything else starts afresh.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from condinst.atomic import atomic_folder
from condinst.config import WITHOUT_EFFECT
from condinst.errors import UserError

RUNS = Path(".runs")
_CODE = ("errors.py", "config.py", "files", "layers", "data", "modeling", "engine")
_LIBRARIES = ("torch", "torchvision", "numpy", "pillow")


def digest(value: object) -> str:
    """16 hexadecimal digits that identify plain values."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_hash() -> str:
    """Identifies the code that training runs through, ours and the libraries' versions."""
    root = Path(__file__).resolve().parent.parent / "condinst"
    files = [
        path
        for name in _CODE
        for path in ([root / name] if name.endswith(".py") else sorted((root / name).rglob("*.py")))
        if path.exists()
    ]
    sources = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    return digest([sources, {name: metadata.version(name) for name in _LIBRARIES}])


def run_hash(
    cfg: CfgNode, data_hash: str, *, processes: int | str = 1, eval_period: int = 0
) -> str:
    """Identifies a training: equal hashes give equal weights on a CPU.

    Args:
        cfg: the resolved config.
        data_hash: of the prepared data.
        processes: they share a step's images, so batch statistics depend on their number.
        eval_period: steps between evaluations on the way; they choose the best weights.
    """
    plain: dict[str, Any] = json.loads(json.dumps(_as_dict(cfg)))
    for key in WITHOUT_EFFECT:
        *parents, name = key.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        node.pop(name, None)
    weights = plain["MODEL"]["WEIGHTS"]
    if weights and Path(weights).is_file():
        plain["MODEL"]["WEIGHTS"] = file_hash(Path(weights))
    return digest([plain, data_hash, code_hash(), processes, eval_period])


def _as_dict(cfg: CfgNode) -> dict[str, Any]:
    return {key: _as_dict(v) if isinstance(v, CfgNode) else v for key, v in cfg.items()}


def file_hash(path: Path) -> str:
    """The file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes of this machine out of a run's folder.

    Args:
        folder: made if missing.
        wait: for the other process to end, however long that takes; it is said.

    Raises:
        UserError: another process trains there, and nobody wants to wait for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise UserError(
                    f"{folder} is in use by another process that trains the same thing; wait for "
                    "it or stop it"
                ) from error
            sys.stderr.write(f"waiting for the process that trains in {folder}\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """A JSON file that another stage leaves.

    Raises:
        UserError: it is missing or damaged; names the stage to run.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run `python cli.py {made_by}` first") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run `python cli.py {made_by}`") from error


def publish(files: Mapping[str, Path], output: Path) -> None:
    """Make the files the whole content of an output folder, in one step.

    Args:
        files: name in the folder -> source file or folder, copied.
        output: replaced.

    Raises:
        UserError: the disk does not take it; the former folder stays.
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
