"""File names of images that are written otherwise than the files themselves."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote


def leaves_folder(file_name: str) -> bool:
    """Whether an image's name points outside of the folder that it is relative to."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(file_name).drive)


class Finder:
    """Finds the files of a folder by names in another writing.

    Another writing is: backslashes, Unicode's composed or decomposed letters, upper or lower case,
    ``%20``, ``file://``, a path that leads into the folder, or an absolute one of another machine
    that ends like one file's path below the folder. A name that may mean several means none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.normpath(Path(folder).absolute()))

    def find(self, name: str) -> str | None:
        """The file's own name below the folder; None: none, or several, may be meant."""
        if not name or "\0" in name:
            return None
        if not leaves_folder(name) and self._is_file(name):
            return name
        if not self._names:
            return None
        for written in dict.fromkeys((name, unquote(name))):
            for way in _ways(written, self.folder):
                for table, key in ((self._exact, _exact), (self._folded, _folded)):
                    found = table.get(key(way), ())
                    if len(found) == 1:
                        return found[0]
                    if found:
                        return None
        return None

    def example(self) -> str | None:
        """The name of some file; None: there is none."""
        return next((name for name in self._names if not name.startswith(".")), None)

    def _is_file(self, name: str) -> bool:
        try:
            return os.path.isfile(os.path.join(self.folder, name))  # noqa: PTH113, PTH118 - speed
        except ValueError:
            return False

    @cached_property
    def _names(self) -> list[str]:
        """Of all files below the folder, when first asked for."""
        found = []
        for folder, _, files in os.walk(self.folder):
            base = Path(folder).relative_to(self.folder)
            found += [(base / file).as_posix() for file in files]
        return sorted(found)

    @cached_property
    def _exact(self) -> dict[str, list[str]]:
        return _table(self._names, _exact)

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        return _table(self._names, _folded)


def _table(names: list[str], key: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)  # pyrefly: ignore[not-callable]
    return found


def _exact(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _exact(_exact(name).casefold())


def _ways(name: str, folder: Path) -> Iterator[str]:
    """Names below a folder that a name may mean, the likeliest first."""
    plain = name.removeprefix("file://").replace("\\", "/")
    drive = PureWindowsPath(plain).drive
    far = bool(drive) or plain.startswith("/") or plain != name.replace("\\", "/")
    plain = plain[len(drive) :] if drive and not drive.startswith("//") else plain
    path = os.path.normpath(plain).replace("\\", "/").lstrip("/")
    parts = [part for part in path.split("/") if part != "."]
    if far and not drive:
        inside = Path(os.path.normpath("/" + path))
        if inside.is_relative_to(folder):
            yield inside.relative_to(folder).as_posix()
            return
    if ".." in parts:
        whole = Path(os.path.normpath(folder / path))
        if whole.is_relative_to(folder):
            yield whole.relative_to(folder).as_posix()
        return
    if not far:
        yield "/".join(parts)
    own = [_folded(part) for part in folder.parts]
    for count in range(1, len(parts)):
        head = [_folded(part) for part in parts[:count]]
        if far or head == own[-count:]:
            yield "/".join(parts[count:])
    if far and len(parts) == 1:
        yield parts[0]
