from __future__ import annotations

from typing import Any

from pipeline.evaluate.scoring import _learnable, _learnable_sentence
from pipeline.prepare.remarks import as_objects, remarks


def split(crowds: int = 0, **classes: int) -> dict[str, Any]:
    return {"objects": sum(classes.values()), "crowds": crowds, "per_category": classes}


def test_nothing_is_said_of_what_is_usual() -> None:
    assert remarks({"train": split(cat=3, dog=1), "val": split(cat=1, dog=2)}) == []
    assert remarks({"val": split(cat=1)}) == []


def test_classes_that_one_half_lacks_are_named() -> None:
    found = remarks({
        "train": split(cat=3, dog=0, cow=2, _background_=0),
        "val": split(cat=1, dog=7, cow=0, _background_=0),
    })  # fmt: skip
    assert [text.split(":")[0] for text in found] == [
        "val has objects of 1 class that train has none of",
        "train has objects of 1 class that val has none of",
        "1 class without any object",
    ]
    assert "dog (7)" in found[0]
    assert "cow" in found[1]
    assert "dataset.classes: {_background_: null}" in found[2]


def test_crowd_regions_are_counted() -> None:
    (text,) = remarks({"train": split(crowds=3, cat=1), "val": split(cat=1)})
    assert text.startswith("train: 3 of 4 annotations are crowd regions")


def test_crowd_flags_in_any_writing_are_taken_away() -> None:
    flags = [1, "1", True, 1.0, 0, None, 2]
    assert [as_objects({"iscrowd": flag})["iscrowd"] for flag in flags] == [0, 0, 0, 0, 0, None, 2]
    assert as_objects("x") == "x"
    assert as_objects({"a": 1}) == {"a": 1}


def test_ap_over_what_could_be_learned() -> None:
    class Scores:
        per_class = {  # noqa: RUF012
            "segm": {
                "cat": {"AP": 60.0},
                "dog": {"AP": 0.0},
                "cow": {"AP": None},
                "ox": {"AP": 20.0},
            },
            "bbox": {"cat": {"AP": None}, "dog": {"AP": 0.0}, "cow": {"AP": None}},
        }

    found = _learnable(Scores(), ["dog"])  # pyrefly: ignore[bad-argument-type]
    assert found == {"segm": 40.0, "bbox": None}
    assert (
        "(dog); over the classes that could be learned, mask AP is 40.0 and box AP undefined"
        in (_learnable_sentence(found, ["dog"]))
    )
