"""Hostile values in files of real tools: each seen to end in a traceback, a crash or no memory."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condinst.errors import UserError
from pipeline.acquire.formats import labelme, voc, yolo
from pipeline.console import print_table, terminal
from pipeline.tracking.records import PARENT, read_records


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image of 48 x 32 pixels."""
    path = tmp_path / "1.jpg"
    Image.new("RGB", (48, 32)).save(path)
    return path


def _shape(**changes: Any) -> dict[str, Any]:
    points = [[1, 1], [9, 1], [9, 9]]
    return {"label": "cat", "shape_type": "polygon", "points": points, **changes}


def _read(picture: Path, **changes: Any) -> list[str]:
    path = picture.with_suffix(".json")
    path.write_text(json.dumps({"shapes": [_shape(**changes)], "imagePath": picture.name}))
    return labelme.read(picture, path).problems


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": [[0, 0], [1e8, 0], [1e8, 1e8]]}, "reach 1e+08 pixels from the corner"),
        ({"points": [[0, 0], [1e7, 0], [1e7, 1e7]]}, "reach 1e+07 pixels from the corner"),
        ({"points": [[0, 0], [1e6, 1e6]] * 3}, "a polygon's outline is 6e+06 pixels long"),
        ({"points": [[0, 0], [9e5, 0]], "shape_type": "circle"}, "outline is 5.09"),
        ({"points": [[10**400, 0], [1, 0], [1, 1]]}, "not pairs of numbers"),
        ({"points": {"x": 1}}, "not pairs of numbers"),
        ({"label": ["cat"]}, "its label is ['cat'], must be a class name"),
        ({"label": "\ud800"}, "its label '\\ud800' is not UTF-8 text"),
        ({"shape_type": ["polygon"]}, "its shape_type is ['polygon'], must be text"),
        ({"shape_type": "mask", "points": [[1, 1], [9, 9]], "mask": "\u00e9"}, "not a base64 PNG"),
    ],
)
def test_labelme_shapes(changes: dict[str, Any], message: str, picture: Path) -> None:
    (problem,) = _read(picture, **changes)
    assert "1.json: shape 0: " in problem
    assert message in problem


def test_labelme_masks_that_are_bombs(picture: Path) -> None:
    header = struct.pack(">IIBBBBB", 9_000, 9_000, 8, 0, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n"
    for code, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9_001 * 9_000, 1))):
        made += struct.pack(">I", len(data)) + code + data
        made += struct.pack(">I", zlib.crc32(code + data))
    text = base64.b64encode(made).decode()
    (problem,) = _read(picture, shape_type="mask", points=[[1, 1], [9, 9]], mask=text)
    assert "its mask of 9000 x 9000 pixels at 1, 1 extends beyond the image" in problem


@pytest.mark.parametrize("said", ["a\0b", ["1.jpg"], "x" * 300, "\ud800"])
def test_labelme_files_whose_picture_cannot_be(said: Any, picture: Path) -> None:
    path = picture.with_suffix(".json")
    path.write_text(json.dumps({"shapes": [], "imagePath": said}))
    pairs, (problem,) = labelme.pair([path], [picture], picture.parent)
    assert pairs == {}
    assert "its imagePath " in problem


def test_labelme_files_that_are_nested(picture: Path) -> None:
    path = picture.with_suffix(".json")
    path.write_text('{"shapes": ' + "[" * 100_000)
    _, (problem,) = labelme.pair([path], [picture], picture.parent)
    assert "1.json has lists or mappings nested more than 64 deep" in problem


def _mask(path: Path, mode: str) -> Path:
    columns = np.tile(np.repeat(np.array([0, 1], np.uint8), 24), (32, 1))
    Image.fromarray(columns).convert(mode).save(path)
    return path


def test_voc_masks_with_an_alpha_channel(picture: Path) -> None:
    objects, classes = (_mask(picture.parent / f"{mode}.png", mode) for mode in ("LA", "L"))
    reading = voc.read(picture, objects, classes, ["cat"])
    assert reading.problems == []
    (thing,) = reading.things
    # 24 columns of 32 zeros, then as many ones
    assert thing.segmentation["size"] == [32, 48]
    assert thing == voc.read(picture, classes, classes, ["cat"]).things[0]


def test_voc_photographs_in_a_mask_s_place(picture: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    path = picture.parent / "noise.png"
    Image.fromarray(noise).save(path)
    (problem,) = voc.read(path, path, path, ["cat"]).problems
    assert "noise.png has " in problem
    assert "instances, the limit is 5,000; is it a mask?" in problem


def test_voc_masks_of_other_kinds(picture: Path) -> None:
    path = picture.parent / "mask.tif"
    Image.new("CMYK", (48, 32)).save(path)
    with pytest.raises(UserError, match=r"mask\.tif has pixels of kind CMYK"):
        voc.read(picture, path, path, ["cat"])


def test_yolo_classes_of_many_digits(picture: Path) -> None:
    labels = picture.with_suffix(".txt")
    labels.write_text("9" * 5000 + " 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (problem,) = yolo.read(picture, labels, ["cat"]).problems
    assert "1.txt line 1: the class is 999" in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ablations:", "ablation:"), "ablations: is missing; add it"),
        (("steps:", "steps: " + "9" * 400 + " #"), "must be an integer"),
        (("name:", "name: !!binary eHg= #"), "dataset.name is a bytes"),
        (("name:", 'name: "\\0" #'), "has characters that are not text"),
    ],
)
def test_params_that_are_hostile(
    change: tuple[str, str], message: str, repository: Path, tmp_path: Path
) -> None:
    from pipeline.params import load_params

    text = (repository / "profiles/sample.yaml").read_text()
    (tmp_path / "p.yaml").write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=message):
        load_params(tmp_path / "p.yaml")


def _printed(*rows: tuple[Any, ...]) -> str:
    from rich.table import Table

    output = terminal(file=io.StringIO(), width=200)
    table = Table(title="[bold]", caption="[/x]")
    table.add_column("[/red]")
    for row in rows:
        table.add_row(*row)
    output.print(table)
    output.print("[/red] :smile: \x1b[2J \ud800")
    return output.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_shows_texts_as_they_stand() -> None:
    printed = _printed(("[/red]",), ("[link=x]y",), ("\x1b]0;title\x07",))
    for text in ("[/red]", "[bold]", "[/x]", "[link=x]y", ":smile:", "\\x1b[2J", "\\ud800"):
        assert text in printed, text
    assert "\x1b" not in printed
    printed.encode()


def test_tables_of_verbs_show_texts_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("[/red]",), [("[/blue]",)])
    shown = capsys.readouterr().out
    assert "[/red]" in shown
    assert "[/blue]" in shown


def _run(run_id: str, parent: str | None = None, **changes: Any) -> dict[str, Any]:
    tags = {} if parent is None else {PARENT: parent}
    base = {"name": "a", "status": "FINISHED", "start": 1, "end": 2, "params": [], "metrics": []}
    return {"run_id": run_id, "tags": tags, **base, **changes}


def test_parents_come_before_what_is_nested_under_them() -> None:
    given = [_run("a", "b"), _run("b", "c"), _run("c"), _run("d", "elsewhere")]
    found = read_records({"format": 1, "runs": given}, "x.zip")
    assert [record["run_id"] for record in found] == ["c", "b", "a", "d"]
    assert read_records({"format": 1, "runs": []}, "x.zip") == []


def test_a_run_may_lack_its_name_and_its_end() -> None:
    given = {key: value for key, value in _run("a").items() if key not in ("name", "end")}
    (found,) = read_records({"format": 1, "runs": [given]}, "x.zip")
    assert (found["name"], found["end"]) == (None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "runs.json has no list runs"),
        ({"runs": {}}, "runs.json has no list runs"),
        ({"format": 2, "runs": []}, "x.zip has format 2, known: 1"),
        ([_run("a", "a")], "x.zip is refused: its runs a are nested in a cycle"),
        ([_run("a", "b"), _run("b", "a")], "its runs a, b are nested in a cycle"),
        ([_run("a"), _run("a")], "run 1: its run_id a occurs before"),
        ([3], "run 0: it is 3, not a mapping"),
        ([_run("../a")], "run 0: its run_id is '../a'"),
        ([_run("a", name=["x"])], r"run 0: its name is \['x'\], must be text"),
        ([_run("a", status="over")], "run 0: its status is 'over', must be one of RUNNING"),
        ([_run("a", start=None)], "run 0: its start is None"),
        ([_run("a", end=10**30)], "run 0: its end is 10"),
        ([_run("a", tags={"x": 1})], "run 0: its tags are"),
        ([_run("a", tags={"x": "\ud800"})], "run 0: its tags are"),
        ([_run("a", params=[["x"]])], "run 0: its params are"),
        ([_run("a", metrics=[["x", "1", 1, 1]])], "run 0: its metrics contain"),
        ([_run("a", metrics=[["x", 1.0, 1, 2**63]])], "run 0: its metrics contain"),
        ([_run("a", metrics=None)], "run 0: its metrics"),
        ([_run("a", metrics=[None])], "run 0: its metrics contain None"),
    ],
)
def test_archives_of_runs_that_are_none(content: Any, message: str) -> None:
    content = {"format": 1, "runs": content} if content and isinstance(content, list) else content
    with pytest.raises(UserError, match=message):
        read_records(content, "x.zip")
