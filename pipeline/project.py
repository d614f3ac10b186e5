"""The project's version and supported Pythons, from pyproject.toml, their only source."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def version() -> str:
    """The project's version, such as ``1.2.3``."""
    return str(_table()["version"])


def pythons() -> str:
    """The Python versions it supports, as a specifier: ``>=3.0,<3.1``."""
    return str(_table()["requires-python"])


def _table() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
