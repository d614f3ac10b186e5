"""The runner of all benchmarks, with stand-ins for the benchmarks and the machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from benchmarks import __main__ as bench
from benchmarks import _machine
from benchmarks._results import Results, read
from benchmarks._rows import Row
from tests.benchmarks.simple import LIMITS, MACHINE, VERSIONS, results


class Size(NamedTuple):
    repeats: int = 5
    half: bool = False


def good(size: Size) -> Iterator[Row]:
    yield Row("a table", f"{size.repeats} {size.half}", [1.0] * size.repeats, flops=1e9)


def raising(_: Size) -> Iterator[Row]:
    yield Row("half a table", "first", [1.0])
    raise RuntimeError("no such instruction")


def killed(_: Size) -> Iterator[Row]:
    os.kill(os.getpid(), 9)
    yield Row("no table", "none")


def last(_: Size) -> Iterator[Row]:
    yield Row("the last table", "none", refused="there is no GPU")


STAND_INS = {"good": good, "raising": raising, "killed": killed, "last": last}
FILE = f"{MACHINE.name}.json"


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in STAND_INS.items():
        module: Any = SimpleNamespace(rows=rows, Size=Size, SMOKE=Size(repeats=1))
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    for name in ("OMP_NUM_THREADS", "KINETO_LOG_LEVEL", *_machine.ISAS["avx2"]):
        monkeypatch.setenv(name, "1")  # put back afterwards
    monkeypatch.setattr(bench, "SCRIPTS", tuple(STAND_INS))
    monkeypatch.setattr(bench, "OUTPUT", tmp_path / "bench")
    monkeypatch.setattr(bench, "_look", lambda _: iter((MACHINE, *LIMITS)))
    monkeypatch.setattr(bench, "_import_what_all_need", lambda: None)
    monkeypatch.setattr(_machine, "versions", lambda: dict(VERSIONS))


def kept() -> Results:
    return read(bench.OUTPUT / FILE)


def test_one_failure_keeps_the_other_tables_and_is_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"^Failed: raising, killed\.$"):
        bench.main([])
    printed = capsys.readouterr().out
    for line in (
        "| matrix product | 2 GFLOP/s |",
        "| 5 False | 1.00 s | 1.00 s to 1.00 s | 50% |",
        "| first | 1.00 s |",
        "Failed: RuntimeError: no such instruction.",
        "Failed: its process ended with status -9.",
        "| none | not on this machine: there is no GPU |",
    ):
        assert line in printed
    assert list(kept().benchmarks) == list(STAND_INS)
    assert kept().benchmarks["good"].rows[0].share == 0.5
    assert kept().benchmarks["raising"].error == "RuntimeError: no such instruction"
    assert [row.what for row in kept().benchmarks["raising"].rows] == ["first"]


def test_a_run_of_some_keeps_the_others_and_says_what_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    former = results(
        {"last": [Row("former", "x", [3.0])], "gone": []}, versions={**VERSIONS, "torch": "2.13.0"}
    )
    former.write(bench.OUTPUT / FILE)
    bench.main(["good"])
    assert [title for title, _ in kept().tables()] == ["a table", "former"]
    said = "Not measured now: last, of 2026-01-02 with torch 2.13.0, now 2.14.1."
    assert said in capsys.readouterr().out


def test_a_broken_file_is_refused_before_anything_is_measured() -> None:
    bench.OUTPUT.mkdir()
    (bench.OUTPUT / FILE).write_text("{")
    with pytest.raises(SystemExit, match="is cut off"):
        bench.main(["good"])
    assert (bench.OUTPUT / FILE).read_text() == "{"


def test_other_sizes_are_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["good", "--set", "repeats=2", "--set", "half=True"])
    assert "| 2 True | 1.00 s |" in capsys.readouterr().out
    bench.main(["good", "--smoke"])
    assert "| 1 False | 1.00 s |" in (printed := capsys.readouterr().out)
    assert "Nothing kept." in printed
    assert not bench.OUTPUT.exists()


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("size=3", "--set size=3: good has repeats=5, half=False"),
        ("repeats=many", "--set repeats=many: expected a value such as 5"),
        ("half=1", "--set half=1: expected a value such as False"),
        ("half", "--set half: expected a value such as False"),
    ],
)
def test_a_wrong_size_is_named(pair: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["good", "--set", pair])
    assert f"Failed: {words}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["goood"], "no benchmark goood: use good, raising, killed, last"),
        (["--set", "repeats=1"], "--set is for one benchmark: name it"),
        (["--threads", "0"], "--threads 0: this process has"),
        (["--threads", "10000"], "--threads 10000: this process has"),
        (["--isa", "avx3"], "invalid choice: 'avx3'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(given)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not bench.OUTPUT.exists()


def test_comparing_ends_well_and_names_a_file_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results({"good": [Row("t", "x", [1.0])]}).write(tmp_path / "a.json")
    results({"good": [Row("t", "x", [2.0])]}).write(tmp_path / "b.json")
    bench.main(["--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert "| x | 1.00 s | 2.00 s | 2.00 | **slower** |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"none\.json"):
        bench.main(["--compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")])


def test_older_instructions_are_those_of_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    bench.main(["last", "--isa", "avx2"])
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2"
    assert (os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"]) == ("haswell", "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(SystemExit, match="--isa avx2 is of x86 CPUs, this is arm64: leave it out"):
        bench.main(["last", "--isa", "avx2"])
