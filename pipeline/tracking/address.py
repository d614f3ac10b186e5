"""Where the tracking store and its runs are, as text; needs no MLflow."""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from condinst.errors import UserError
from pipeline.tracking.workspace import workspace

DATABASE = "mlflow.db"


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a run is, as plain text to pass to other processes and machines."""

    uri: str
    run_id: str
    experiment_id: str


def default_uri(root: Path | None = None) -> str:
    """The store: ``MLFLOW_TRACKING_URI``, else the file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_uri(workspace(root))


def own_uri(root: Path) -> str:
    """The URI of the database in a folder, with special characters escaped.

    An escaped one also names the driver, since MLflow creates the folder of a ``sqlite:///`` URI
    without unescaping it.
    """
    plain = str(root / DATABASE)
    escaped = plain.replace("%", "%25").replace("?", "%3F")
    return f"{'sqlite' if escaped == plain else 'sqlite+pysqlite'}:///{escaped}"


def check_answers(uri: str, timeout: float = 3.0) -> None:
    """Check that a server answers; stores that are not servers pass.

    Raises:
        UserError: it does not answer within ``timeout`` seconds.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout).close()
    except urllib.error.HTTPError:
        return  # it answers, if only to ask for a login
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"the MLflow server at MLFLOW_TRACKING_URI={uri} does not answer ({reason}); start it, "
            "correct the address, unset the variable to use the project's own mlflow.db, or set "
            "tracking.enabled: false"
        ) from error


def compare_url(base: str, run_ids: Sequence[str], experiment_id: str) -> str:
    """The address of MLflow's own compare page for these runs."""
    runs = urllib.parse.quote(json.dumps(list(run_ids), separators=(",", ":")))
    experiments = urllib.parse.quote(json.dumps([experiment_id], separators=(",", ":")))
    return f"{base.rstrip('/')}/#/compare-runs?runs={runs}&experiments={experiments}"
