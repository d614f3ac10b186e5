"""Files read in pieces hold what Python's own parser finds in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condinst.annotations import json_lists, reading
from condinst.annotations.building import build_index
from condinst.annotations.json_lists import Edited, JsonList, edit, read_in_pieces, write_json
from condinst.annotations.reading import read_coco
from condinst.data.index import open_index

NASTY: dict[str, Any] = {
    "info": {
        "text": 'brackets }, { and "quotes" \\ and ]} and \u00e4\u6f22',
        "list": [{}, {"a": 1}],
    },
    "licenses": [],
    "numbers": [1, [2, {"b": 3}]],
    "images": [
        {"id": k, "file_name": f'"}}, {{"{k}\u00e9', "tags": [{"x": [k]}, {}]} for k in range(50)
    ],
    "annotations": [
        {
            "id": k,
            "segmentation": [[0.5, k, 1e-3]],
            "more": {"counts": [k], "deep": [{"c": "}]"}, {}]},
        }
        for k in range(200)
    ],
    "last": 12345,
}  # fmt: skip


@pytest.mark.parametrize("window", [1, 7, 100, 1000, 1 << 20])
@pytest.mark.parametrize(
    "style", [{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}]
)
def test_pieces_make_up_the_whole(
    window: int, style: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lists, "_WINDOW", window)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(NASTY, **style), encoding="utf-8")
    found = read_in_pieces(path, ("annotations",))
    assert found is not None
    lazy = found["annotations"]
    assert isinstance(lazy, JsonList)
    assert len(lazy) == 200
    assert list(lazy) == NASTY["annotations"]
    for place in (0, 1, 57, 199, -1, -200):
        assert lazy[place] == NASTY["annotations"][place]
    assert lazy[3:5] == NASTY["annotations"][3:5]
    with pytest.raises(IndexError):
        lazy[200]
    assert {**found, "annotations": list(lazy)} == NASTY
    assert list(found) == list(NASTY)
    write_json(found, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == NASTY


def test_numbers_that_only_python_takes(tmp_path: Path) -> None:
    entries = [{"id": 2**70}, {"area": float("inf")}, {"text": "\ud800"}, {"id": 1}]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": entries}))
    found = read_in_pieces(tmp_path / "a.json", ("annotations",))
    assert found is not None
    assert list(found["annotations"]) == entries
    kept = edit(found["annotations"], lambda entry: {**entry, "new": 1})
    assert list(kept) == [{**entry, "new": 1} for entry in entries]
    write_json({"annotations": kept}, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == {"annotations": list(kept)}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a": 1} x', '{"a": [{"b": 1}, {"c": 2}', '{"a": [{"b": 1} {"c": 2}]}',
     '{"a": [{"b": 1}, 3]}', '{"a": [{"b": 1},]}', '{1: 2}', '{"a" 1}', '{"a": [{"b": nan}]}',
     '{"a": [{"b": 1}}'],
)  # fmt: skip
def test_leaves_to_python_what_is_odd(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_in_pieces(tmp_path / "a.json", ("a",)) is None


def test_edits_hold_only_what_changed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [{"n": k} for k in range(10)]}))
    found = read_in_pieces(tmp_path / "a.json", ("a",))
    assert found is not None
    source = found["a"]

    def change(entry: dict[str, int]) -> dict[str, int] | None:
        if entry["n"] % 3 == 0:
            return None
        return {"n": -5} if entry["n"] == 5 else entry

    kept = edit(source, change)
    assert isinstance(kept, Edited)
    expected = [{"n": n} for n in (1, 2, 4, -5, 7, 8)]
    assert list(kept) == [kept[k] for k in range(6)] == expected
    kept.change(0, {"n": 100})
    assert [entry["n"] for entry in edit(kept, change)] == [100, 2, 4, -5, 7, 8]
    assert edit(list(source), change) == expected
    assert len(source) == 10
    assert list(edit(source, lambda _: None)) == []
    write_json({"a": edit(source, lambda _: None), "b": kept, "c": source}, tmp_path / "b.json")
    written = json.loads((tmp_path / "b.json").read_text())
    assert written == {"a": [], "b": list(kept), "c": list(source)}
    write_json({}, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == {}


def test_a_long_file_makes_the_same_index(
    tiny_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**tiny_dataset.content}
    rng = np.random.default_rng(0)
    content["annotations"] = [
        {**content["annotations"][k % 4], "id": k + 1, "image_id": int(rng.integers(1, 5))}
        for k in range(300)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    build_index(path, tiny_dataset.images, tmp_path / "whole")
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(json_lists, "_WINDOW", 1000)
    monkeypatch.setattr("condinst.annotations.gathering._TOGETHER", 7)
    assert isinstance(read_coco(path)["annotations"], JsonList)
    build_index(path, tiny_dataset.images, tmp_path / "pieces")
    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert len(names) == 15
    for name in names:
        one, other = ((tmp_path / folder / name) for folder in ("whole", "pieces"))
        if name == "annotations.json":
            assert json.loads(one.read_text()) == json.loads(other.read_text())
        else:
            assert one.read_bytes() == other.read_bytes(), name
    owners = [entry["image_id"] for entry in content["annotations"]]
    assert [len(record["annotations"]) for record in open_index(tmp_path / "whole")] == [
        owners.count(number) for number in (1, 2, 3, 4)
    ]
