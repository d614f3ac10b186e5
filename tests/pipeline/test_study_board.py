"""What a study's display says, from files as trainings leave them."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.studies.study_board import StudyBoard


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyBoard:
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    return StudyBoard(["a", "b", "c"], ["k1", "k2", "k3"], [100, 100, 200], 2, console)


def tell(key: str, iteration: int, most: int, left: float, **more: Any) -> None:
    path = Path(".runs") / key / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"iteration": iteration, "max_iter": most, "seconds_left": left, **more}
    path.write_text(json.dumps({"total_loss": 1.25, "images_per_s": 7.0} | told))


def test_states(board: StudyBoard) -> None:
    assert [board.state(n)[0] for n in range(3)] == ["waiting"] * 3
    board.tick([0, 1])
    assert [board.state(n)[0] for n in range(3)] == ["starting", "starting", "waiting"]
    tell("k1", 40, 100, 30.0)
    tell("k2", 100, 100, 0.0)
    assert [board.state(n)[0] for n in range(3)] == ["training", "evaluating", "waiting"]
    assert board.started(0)
    assert not board.started(2)
    board.over(1, "finished")
    assert board.state(1)[0] == "finished"


def test_one_estimate_for_all(board: StudyBoard) -> None:
    assert board.seconds_left() is None
    board.tick([0, 1])
    tell("k1", 40, 100, 30.0)  # half a second a step
    tell("k2", 80, 100, 10.0)
    # 60 + 20 + 200 steps, two at a time
    assert board.seconds_left() == pytest.approx(280 * 0.5 / 2)
    board.over(0, "finished")
    board.over(1, "failed")
    board.tick([2])
    tell("k3", 150, 200, 50.0)
    assert board.seconds_left() == pytest.approx(50.0)


def test_what_an_earlier_start_left_is_not_progress(board: StudyBoard) -> None:
    tell("k1", 40, 100, 30.0)
    long_ago = time.time() - 100
    os.utime(".runs/k1/progress.json", (long_ago, long_ago))
    board.tick([0])
    assert board.state(0)[0] == "starting"
    Path(".runs/k1/progress.json").write_text("{")
    assert board.state(0)[0] == "starting"


def test_table_and_lines(board: StudyBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    board.tick([0], "1 instead of 2 at a time: little memory")
    tell("k1", 40, 100, 30.0)
    board.console.print(board.table())
    assert isinstance(board.console.file, io.StringIO)
    text = board.console.file.getvalue()
    assert "40 / 100" in text
    assert "1.250" in text
    assert "0 of 3 over, about" in text
    assert text.count("1 instead of 2 at a time") == 2  # once as a line, and under the table
    plain = Console(file=io.StringIO(), width=200)
    lines = StudyBoard(["a"], ["k1"], [100], 1, plain)
    tell("k1", 60, 100, 20.0)
    lines._told -= 60
    lines.tick([0])
    lines.tick([0])
    assert isinstance(plain.file, io.StringIO)
    assert plain.file.getvalue() == (
        "a: training step 60 of 100, loss 1.250, 7.0 images/s\n0 of 1 over, about 20 s left\n"
    )
