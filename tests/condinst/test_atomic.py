"""Whole or as before: files, folders, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from condinst.atomic import atomic_file, atomic_folder, write_json
from condinst.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_suffix_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.mp4"
    with atomic_file(path) as partial:
        assert (partial.parent, partial.suffix) == (path.parent, ".mp4")
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.mp4"]


def test_a_file_stays_when_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyError), atomic_file(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_disk_that_takes_no_more_is_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    message = r"a\.txt could not be written: .*No space left"
    with pytest.raises(UserError, match=message), atomic_file(path):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("one", "two"):
        with atomic_folder(target) as folder:
            (folder / text).write_text(text)
        assert names(target) == [text]
    with pytest.raises(OSError, match="full"), atomic_folder(target) as folder:
        (folder / "half").touch()
        raise OSError("full")
    assert names(target) == ["two"]
    assert names(tmp_path) == ["out"]


def test_json_turns_paths_into_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x"), "none": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": "x", "none": None}
