"""Ready-made experiments in profiles/, and switching params.yaml to one without losing edits."""

from __future__ import annotations

import os
import time
from pathlib import Path

from condinst.errors import UserError
from pipeline.params import schema

FOLDER = Path(__file__).resolve().parents[2] / "profiles"


def names() -> list[str]:
    """The profiles, the default first."""
    found = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    return sorted(found, key=lambda name: name != "sample")


def text(name: str) -> str:
    """The text of a profile.

    Raises:
        UserError: If the profile does not exist.
    """
    if name not in names():
        near = schema.nearest(name, names())
        raise UserError(f"Unknown profile {name}{near}. Known: {', '.join(names())}.")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """A profile's description: the first line of its file."""
    return text(name).partition("\n")[0].lstrip("# ").rstrip(".")


def current(params: Path) -> str | None:
    """The profile that a params file is identical to; None if it is missing or edited."""
    if not params.is_file():
        return None
    content = params.read_text(encoding="utf-8")
    return next((name for name in names() if text(name) == content), None)


def use(name: str, params: Path, *, force: bool = False) -> Path | None:
    """Replaces a params file by a profile.

    Args:
        name: The profile.
        params: The file to replace.
        force: Whether to replace a file with the user's edits; a copy is kept.

    Returns:
        The copy of the edited file; None if there was nothing to keep.

    Raises:
        UserError: If the profile does not exist, or edits would be lost.
    """
    content = text(name)
    backup = None
    if params.exists() and current(params) is None:
        if not force:
            raise UserError(
                f"{params} differs from every profile: it has edits that would be lost. "
                f"Keep them as a profile of your own (cp {params} profiles/NAME.yaml), "
                "or use --force, which keeps a copy."
            )
        backup = _free_name(params)
        backup.write_bytes(params.read_bytes())
    scratch = params.with_name(f".{params.name}.{os.getpid()}")
    scratch.write_text(content, encoding="utf-8")
    scratch.replace(params)
    return backup


def _free_name(params: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    candidates = [f"{params.stem}.{stamp}{extra}.bak" for extra in ("", *map(str, range(2, 100)))]
    return next(path for path in map(params.with_name, candidates) if not path.exists())
