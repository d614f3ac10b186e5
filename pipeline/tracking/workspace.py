"""The folder that a project's records belong to, which may differ from the working folder."""

from __future__ import annotations

from pathlib import Path

_TEMPORARY = (".dvc", "tmp", "exps")


def workspace(root: Path | None = None) -> Path:
    """The project's own folder.

    ``dvc exp run --temp`` and ``--queue`` work in a copy below ``.dvc/tmp/exps``, which DVC deletes
    at the end; then this is the folder with that ``.dvc``.

    Args:
        root: the folder that the project works in; the working directory by default.
    """
    folder = (root or Path.cwd()).resolve()
    parts = folder.parts
    for i in range(len(parts) - len(_TEMPORARY)):
        if parts[i : i + len(_TEMPORARY)] == _TEMPORARY:
            return Path(*parts[:i])
    return folder
