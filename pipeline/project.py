"""What pyproject.toml says of the project itself: the one place of its version and its Pythons."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def version() -> str:
    """The project's version, such as ``1.2.3``."""
    return str(_table()["version"])


def pythons() -> str:
    """The Pythons that it runs on, as a specifier: ``>=3.0,<3.1``."""
    return str(_table()["requires-python"])


def _table() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
