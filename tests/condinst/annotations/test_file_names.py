from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from condinst.annotations.file_names import Finder, leaves_folder


@pytest.fixture
def finder(tmp_path: Path) -> Finder:
    folder = tmp_path / "data" / "pictures"
    for name in (
        "sub/1.jpg",
        "sub/Two.JPG",
        "a b.png",
        "100%.png",
        "same/x.jpg",
        "other/x.jpg",
        "case/y.jpg",
        "case/Y.jpg",
        unicodedata.normalize("NFD", "\u00e9t\u00e9.jpg"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return Finder(folder)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub/1.jpg", "sub/1.jpg"),
        ("sub\\1.jpg", "sub/1.jpg"),
        ("sub\\\\1.jpg", "sub/1.jpg"),
        (".\\sub\\1.jpg", "sub/1.jpg"),
        ("sub/two.jpg", "sub/Two.JPG"),
        ("SUB/1.JPG", "sub/1.jpg"),
        ("a%20b.png", "a b.png"),
        ("100%.png", "100%.png"),
        ("100%25.png", "100%.png"),
        ("\u00e9t\u00e9.jpg", unicodedata.normalize("NFD", "\u00e9t\u00e9.jpg")),
        ("/elsewhere/pictures/sub/1.jpg", "sub/1.jpg"),
        ("C:\\Users\\me\\sub\\1.jpg", "sub/1.jpg"),
        ("file:///home/me/sub/1.jpg", "sub/1.jpg"),
        ("file://C:/me/a%20b.png", "a b.png"),
        ("pictures/sub/1.jpg", "sub/1.jpg"),
        ("data\\pictures\\sub\\1.jpg", "sub/1.jpg"),
        ("../pictures/sub/1.jpg", "sub/1.jpg"),
        ("/1.jpg", None),
        ("case/y.jpg", "case/y.jpg"),
        ("case\\Y.jpg", "case/Y.jpg"),
        ("CASE/y.JPG", None),
        ("/far/x.jpg", None),
        ("/far/same/x.jpg", "same/x.jpg"),
        ("third/1.jpg", None),
        ("1.jpg", None),
        ("../1.jpg", None),
        ("../../etc/sub/1.jpg", None),
        ("sub/1.png", None),
        ("", None),
        ("a\0b", None),
    ],
)
def test_finds_the_one_file_that_is_meant(finder: Finder, name: str, found: str | None) -> None:
    assert finder.find(name) == found


def test_absolute_paths_into_the_folder(finder: Finder) -> None:
    assert finder.find(str(finder.folder / "sub/1.jpg")) == "sub/1.jpg"
    assert finder.find(f"file://{finder.folder}/a%20b.png") == "a b.png"
    assert finder.find(str(finder.folder / "none.jpg")) is None


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    finder = Finder(tmp_path / "none")
    assert (finder.find("1.jpg"), finder.example()) == (None, None)


@pytest.mark.parametrize("name", ["../a", "/a", "C:\\a", "..\\a", "a/../b"])
def test_what_leaves_the_folder(name: str) -> None:
    assert leaves_folder(name)
    assert not leaves_folder("a\\b.jpg")
