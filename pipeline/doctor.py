"""Checks of environment, parameters, data and tools, each with a remedy."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from condinst.errors import UserError
from pipeline import project, tracking
from pipeline.layout import PREPARED, RAW, TRAINED
from pipeline.params import Params, load_params
from pipeline.tracking import dashboard

State = Literal["ok", "note", "bad"]
GIB = 2**30
# Free disk that a source needs: archives, unpacked images, index, runs.
DISK_NEEDED = {"sample": 3 * GIB, "directory": 10 * GIB, "coco2017": 60 * GIB}
MEMORY_NEEDED = 3 * GIB
DASHBOARD_PORT = 5000


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        state: `bad` stops the pipeline, `note` does not.
        name: What was checked.
        found: What was found.
        remedy: What to do; empty if nothing.
    """

    state: State
    name: str
    found: str
    remedy: str = ""


def examine(path: Path = Path("params.yaml")) -> list[Result]:
    """Runs all checks; none of them raises.

    Args:
        path: The params file.
    """
    params, first = _load(path)
    checks: list[tuple[str, Callable[[], Iterator[Result]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("detectron2", _detectron2),
        ("devices", lambda: _devices(params)),
        ("disk", lambda: _disk(params)),
        ("memory", _memory),
        ("recipe", lambda: _recipe(params)),
        ("data", lambda: _data(params)),
        ("git and DVC", _versioning),
        ("tracking", lambda: _tracking(params)),
        ("dashboard", _port),
    ]
    results = [first]
    for name, check in checks:
        try:
            results += check()
        except Exception as error:  # a broken environment fails in any way
            results.append(Result("bad", name, f"{type(error).__name__}: {error}", "make setup"))
    return results


def decisions(path: Path, *, again: bool) -> list[tuple[str, ...]]:
    """What was found fastest on this machine, for trainings in `train` and in studies.

    Args:
        path: The params file.
        again: Whether to measure what is known already.
    """
    from pipeline.params import override
    from pipeline.recipe import PreparedData, own_threads
    from pipeline.train import tuning

    params, data = load_params(path), PreparedData.load()
    for one in (params, override(params, own_threads(params))):
        tuning.tune(one, data, again=again)
    return tuning.rows(params, data)


def _load(path: Path) -> tuple[Params | None, Result]:
    try:
        params = load_params(path)
    except UserError as error:
        return None, Result("bad", "parameters", str(error), f"correct {path}")
    return params, Result("ok", "parameters", f"{path}, profile {params.profile}")


def _python() -> Iterator[Result]:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    if SpecifierSet(project.pythons()).contains(version, prereleases=True):
        yield Result("ok", "python", version)
    else:
        remedy = f"use Python {project.pythons()}: make setup PYTHON=/path/to/python"
        yield Result("bad", "python", version, remedy)


def locked_versions(lock: Path) -> dict[str, str]:
    """The packages that a lock file pins for this platform."""
    from packaging.requirements import Requirement

    pinned = {}
    for line in lock.read_text().splitlines():
        if re.match(r"[A-Za-z0-9].*==", line):
            requirement = Requirement(line.rstrip("\\ ").split(" --hash")[0])
            if requirement.marker is None or requirement.marker.evaluate():
                pinned[requirement.name] = str(requirement.specifier).removeprefix("==")
    return pinned


def _packages(lock: Path = project.ROOT / "requirements.lock") -> Iterator[Result]:
    wrong = []
    pinned = locked_versions(lock)
    for name, version in pinned.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            wrong.append(f"{name} {found} (lock: {version})")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        yield Result(
            "bad", "packages", ", ".join(wrong[:5]) + more, "rm .venv/.installed; make setup"
        )
    else:
        yield Result("ok", "packages", f"all {len(pinned)} as in requirements.lock")


def _detectron2() -> Iterator[Result]:
    if importlib.util.find_spec("detectron2") is None:
        yield Result("bad", "detectron2", "missing", "rm .venv/.installed; make setup")
        return
    import detectron2.modeling

    compiled = importlib.util.find_spec("detectron2._C") is not None
    ops = "with compiled ops" if compiled else "without compiled ops, which CondInst does not need"
    yield Result("ok", "detectron2", f"{detectron2.__version__}, {ops}")


def _devices(params: Params | None) -> Iterator[Result]:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "no GPU"
    found = f"torch {torch.__version__}, {os.cpu_count()} cores, {names}"
    wanted = params.train.num_gpus if params else 0
    if wanted > count:
        remedy = f"train.num_gpus is {wanted}: set it to {count}, or use a machine that has them"
        yield Result("bad", "devices", found, remedy)
    elif count and not wanted:
        yield Result("note", "devices", found, f"train.num_gpus is 0; {count} would be faster")
    else:
        yield Result("ok", "devices", found)


def _disk(params: Params | None) -> Iterator[Result]:
    source = params.dataset.source if params else "sample"
    free, needed = shutil.disk_usage(Path.cwd()).free, DISK_NEEDED[source]
    subset = params.dataset.subset if params else None
    if subset is not None and subset.train is not None:  # its archive is by far the largest
        needed = DISK_NEEDED["directory"]
    found = f"{free / GIB:.0f} GiB free"
    remedy = f"dataset.source {source} needs about {needed / GIB:.0f} GiB; make clean frees some"
    yield Result("ok", "disk", found) if free >= needed else Result("bad", "disk", found, remedy)


def _memory() -> Iterator[Result]:
    import psutil

    free = psutil.virtual_memory().available
    found = f"{free / GIB:.1f} GiB free"
    if free >= MEMORY_NEEDED:
        yield Result("ok", "memory", found)
    else:
        yield Result("note", "memory", found, "lower train.images_per_step and train.workers")


def _recipe(params: Params | None) -> Iterator[Result]:
    if params is None:
        return
    path = params.model.config
    if Path(path).is_file():
        yield Result("ok", "recipe", path)
    else:
        yield Result("bad", "recipe", f"{path} is missing", "set model.config; ls configs/CondInst")


def _data(params: Params | None) -> Iterator[Result]:
    if params and params.dataset.source == "directory":
        dataset = params.dataset
        paths = [dataset.root] if dataset.root else []
        splits = (dataset.train, dataset.val, dataset.split)
        parts = [(s.images, s.json, s.labels, s.names, s.list) for s in splits if s]
        paths += [path for part in parts for path in part if path]
        missing = [path for path in paths if not Path(path).exists()]
        if missing:
            found = ", ".join(missing) + " missing"
            yield Result("bad", "your data", found, "correct dataset.root, or .train and .val")
        else:
            yield Result("ok", "your data", ", ".join(map(str, paths)))
    for name, path in (
        ("raw data", RAW / "manifest.json"),
        ("prepared data", PREPARED / "dataset.json"),
        ("weights", TRAINED / "model.pth"),
    ):
        if path.is_file():
            yield Result("ok", name, str(path))
        else:
            yield Result("note", name, "not created yet", "make repro")
    for remark in _remarks(Path("data/prepared/dataset.json")):
        yield Result("note", "prepared data", remark)


def _remarks(path: Path) -> list[str]:
    """Remarks of `prepare` on the data as a whole."""
    if not path.is_file():
        return []
    return json.loads(path.read_text()).get("remarks", [])


def _versioning() -> Iterator[Result]:
    def ask(*command: str) -> str | None:
        if shutil.which(command[0]) is None:
            return None
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("git", "rev-parse", "--short", "HEAD")
    if commit is None:
        remedy = "clone the project with git: DVC and the runs' records need it"
        yield Result("bad", "git", "not a git repository", remedy)
    else:
        changed = ask("git", "status", "--porcelain", "--untracked-files=no")
        edited = f", {len(changed.splitlines())} files edited" if changed else ""
        yield Result("ok", "git", f"commit {commit}{edited}")
    if not Path(".dvc/config").is_file():
        yield Result("bad", "DVC", "not set up here", "run in the project's folder, or: dvc init")
    elif shutil.which("dvc") is None:
        yield Result("bad", "DVC", "not on PATH", "source .venv/bin/activate")
    else:
        yield Result("ok", "DVC", "`dvc status` says what is out of date")


def _tracking(params: Params | None) -> Iterator[Result]:
    uri = tracking.default_uri()
    if params and not params.tracking.enabled:
        yield Result("note", "tracking", "off", "set tracking.enabled: true to record runs")
        return
    try:
        tracking.check_answers(uri)
    except UserError as error:
        yield Result("bad", "tracking", uri, str(error))
        return
    yield Result("ok", "tracking", uri)


def _port() -> Iterator[Result]:
    if dashboard.is_free(DASHBOARD_PORT):
        yield Result("ok", "dashboard", f"port {DASHBOARD_PORT} is free")
    else:
        remedy = f"python cli.py dashboard --port {dashboard.free_port(DASHBOARD_PORT + 1)}"
        yield Result("note", "dashboard", f"port {DASHBOARD_PORT} is in use", remedy)
