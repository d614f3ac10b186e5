"""A project that was moved or copied: its database still names the folder it came from."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Where MLflow keeps addresses of files. Whatever it has more of is left as it is.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def mend(database: Path, artifacts: Path) -> Path | None:
    """Bring addresses of artifacts in another folder to the project's own.

    A copy would otherwise write into the project that it was copied from. Only what was made by
    this code is touched: local folders that bear the name of ``artifacts``.

    Args:
        database: the project's own; nobody else has it open for writing.
        artifacts: its folder of artifacts.

    Returns:
        The folder that was named before; None if nothing was to be mended.
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
    """Addresses of other projects' folders of the same name."""
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
