"""A moved or copied project: its database still refers to the folder it came from."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Where MLflow keeps file addresses. Anything beyond these is left as it is.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def mend(database: Path, artifacts: Path) -> Path | None:
    """Change artifact addresses from another folder to the project's own.

    Otherwise a copy would write into the project that it was copied from. Only what this code made
    is touched: local folders with the same name as ``artifacts``.

    Args:
        database: the project's own; no other process has it open for writing.
        artifacts: its artifact folder.

    Returns:
        The previous folder; None if nothing had to be changed.
    """
    if not database.is_file():
        return None
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        former = _former(connection, artifacts)
        for old in former:
            for table, column in _COLUMNS:
                _replace(connection, table, column, old, artifacts.as_uri())
    return _path(former[0]) if former else None


def _former(connection: sqlite3.Connection, artifacts: Path) -> list[str]:
    """Addresses of other projects' folders with the same name."""
    if not _has(connection, "experiments", "artifact_location"):
        return []
    rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    return [
        address
        for (address,) in rows
        if address
        and address.startswith("file:")
        and _path(address).name == artifacts.name
        and _path(address) != artifacts
    ]


def _path(address: str) -> Path:
    return Path(unquote(urlsplit(address).path))


def _has(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    if _has(connection, table, column):
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )
