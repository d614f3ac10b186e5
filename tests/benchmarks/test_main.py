"""The runner of all benchmarks, with stand-ins for the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as bench

STAND_INS = {
    "good": "print('| a table |')",
    "raises": "print('| half a table |', flush=True); raise RuntimeError('no such instruction')",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "last": "print('| the last table |')",
}


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SCRIPTS", tuple(STAND_INS))
    monkeypatch.setattr(bench, "OUTPUT", tmp_path / "outputs" / "benchmarks.md")
    monkeypatch.setattr(bench, "command", lambda name: [sys.executable, "-c", STAND_INS[name]])


def test_one_failure_keeps_the_other_tables_and_is_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([])
    assert ended.value.code == 1
    kept = bench.OUTPUT.read_text()
    for line in ("| a table |", "| half a table |", "| the last table |"):
        assert line in kept
    assert "Failed with status 1." in kept
    assert "Failed with status -9." in kept
    assert kept.endswith("Failed: raises, killed.\n")
    assert kept in capsys.readouterr().out


def test_no_failure_ends_well() -> None:
    bench.main(["good", "last"])
    assert "Failed" not in bench.OUTPUT.read_text()


def test_an_unknown_name_is_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["inferences"])
    assert ended.value.code == 2
    assert "no benchmark inferences: use good, raises, killed, last" in capsys.readouterr().err
    assert not bench.OUTPUT.parent.exists()
