"""Weights by name."""

from __future__ import annotations

from pathlib import Path


def resolve_weights(name: str | Path) -> Path:
    """Find a weights file by its name."""
    return Path(name)
