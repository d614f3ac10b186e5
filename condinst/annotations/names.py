"""File names that annotations give."""

from __future__ import annotations

from pathlib import PurePosixPath


def leaves_folder(file_name: str) -> bool:
    """Whether an image's name points outside of the folder that it is relative to."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts
