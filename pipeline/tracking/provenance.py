"""A run's provenance, and its values under flat names."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from pipeline.params import Params

PROCESS = "condinst.process"


def common_tags(params: Params, data_hash: str, cfg: Any) -> dict[str, str]:
    """Tags that every run has: commit, DVC experiment, data, seed, output stride, profile."""
    tags = {
        "profile": params.profile,
        "dataset": params.dataset.name,
        "data_hash": data_hash,
        "seed": str(params.train.seed),
        "mask_out_stride": str(cfg.MODEL.CONDINST.MASK_OUT_STRIDE),
        "mlflow.source.git.commit": git_commit(),
    }
    for key in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        if os.environ.get(key):
            tags[key] = os.environ[key]
    return tags


def git_commit() -> str:
    """The commit, with ``-dirty`` if tracked files differ from it; empty outside git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def figures_by_name(
    metrics: Mapping[str, Mapping[str, float | None]],
) -> dict[str, float | None]:
    """Task -> name -> figure, as ``segm/AP`` -> figure."""
    return {f"{task}/{key}": v for task, values in metrics.items() for key, v in values.items()}


def process_tags() -> dict[str, str]:
    """Which process on which machine writes the run, and for which user."""
    process = psutil.Process()
    return {
        PROCESS: f"{socket.gethostname()}/{process.pid}:{process.create_time():.0f}",
        "mlflow.user": _user(),
        "mlflow.source.name": "cli.py",
        "mlflow.source.type": "LOCAL",
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def is_alive(process: str) -> bool:
    """Whether the process in a `PROCESS` tag, after the machine's name, still runs here."""
    pid, _, created = process.partition(":")
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == created
    except (ValueError, psutil.Error):
        return False


def short(value: object) -> str:
    """A value with at most four digits, if it is a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
