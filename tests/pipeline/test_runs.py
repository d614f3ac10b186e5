"""Which trainings count as the same, and files that are whole or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from condinst.atomic import write_json
from condinst.errors import UserError
from pipeline import runs


def changed(*pairs: object) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_list(list(pairs))
    return cfg


@pytest.mark.slow
def test_what_decides_the_weights_decides_the_hash() -> None:
    base = runs.run_hash(changed(), "data")
    assert runs.run_hash(changed(), "data") == base
    others = [
        runs.run_hash(changed("SOLVER.BASE_LR", 0.5), "data"),
        runs.run_hash(changed("SEED", 5), "data"),
        runs.run_hash(changed(), "other"),
        runs.run_hash(changed(), "data", processes=2),
        runs.run_hash(changed(), "data", eval_period=10),
    ]
    assert len({base, *others}) == 6


@pytest.mark.parametrize(
    "pair",
    [("OUTPUT_DIR", "x"), ("DATALOADER.NUM_WORKERS", 9), ("TEST.DETECTIONS_PER_IMAGE", 7),
     ("SOLVER.CHECKPOINT_PERIOD", 3)],
)  # fmt: skip
def test_what_does_not_leaves_it(pair: tuple[str, object]) -> None:
    assert runs.run_hash(changed(*pair), "data") == runs.run_hash(changed(), "data")


def test_initial_weights_count_by_content(tmp_path: Path) -> None:
    a, b = tmp_path / "a.pth", tmp_path / "b.pth"
    a.write_bytes(b"1")
    b.write_bytes(b"1")
    first = runs.run_hash(changed("MODEL.WEIGHTS", str(a)), "data")
    assert runs.run_hash(changed("MODEL.WEIGHTS", str(b)), "data") == first
    a.write_bytes(b"2")
    assert runs.run_hash(changed("MODEL.WEIGHTS", str(a)), "data") != first


def test_one_process_at_a_time(tmp_path: Path) -> None:
    holder = rf"in use by process {os.getpid()} \(.*, since 20\d\d-"
    with runs.locked(tmp_path), pytest.raises(UserError, match=holder), runs.locked(tmp_path):
        pass
    with runs.locked(tmp_path):
        pass


def test_a_stage_started_twice_waits_and_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    second = (
        "from pipeline import runs\nwith runs.in_turn('prepare'):\n    print(open('mark').read())\n"
    )
    with runs.in_turn("prepare"):
        process = subprocess.Popen(
            [sys.executable, "-c", second],
            env={**os.environ, "PYTHONPATH": str(repository)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.readline()
        (tmp_path / "mark").write_text("after the first")
    assert f"waiting for process {os.getpid()}" in said
    assert process.communicate(timeout=60)[0] == "after the first\n"


def test_json_of_another_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cli.py prepare"):
        runs.read_json(tmp_path / "x.json", "prepare")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        runs.read_json(tmp_path / "x.json", "prepare")
    write_json(tmp_path / "x.json", {"a": 1})
    assert runs.read_json(tmp_path / "x.json", "prepare") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_output_is_replaced_as_a_whole(tmp_path: Path) -> None:
    source, output = tmp_path / "w.pth", tmp_path / "outputs" / "train"
    source.write_text("new")
    output.mkdir(parents=True)
    (output / "stale").write_text("old")
    runs.publish({"model.pth": source}, output)
    assert {path.name: path.read_text() for path in output.iterdir()} == {"model.pth": "new"}
    with pytest.raises(UserError, match="could not be written"):
        runs.publish({"model.pth": tmp_path / "missing"}, output)
    assert (output / "model.pth").read_text() == "new"
    assert [path.name for path in output.parent.iterdir()] == ["train"]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "x.json", {"a": 1})

    def full(path: Path, text: str) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="is the disk full"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
