"""The tables of docs/performance.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks._results import read
from benchmarks._rows import Row
from condinst.errors import UserError
from tests.benchmarks.simple import MACHINE, results

PAGE = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"


def test_the_page_holds_what_the_files_say() -> None:
    text = tables.PAGE.read_text()
    found = [read(path) for path in sorted(tables.RESULTS.glob("*.json"))]
    assert tables.page(text, found) == text, "run python -m benchmarks.tables"


def test_a_column_for_each_machine() -> None:
    fast = Row("t", "fast", [0.5], "base", ">= 2 times", 3_000_000, share=0.25)
    xeon = results({"gpu": [Row("t", "base", [1.0]), fast]})
    amd = MACHINE._replace(cpu="AMD EPYC", torch="avx2")
    lines = list(tables.tables([results({"gpu": [Row("t", "fast", refused="none")]}, amd), xeon]))
    assert "|  | amd-epyc-avx2-2-cores | intel-xeon-cpu-2-1ghz-avx512-2-cores | goal |" in lines
    assert "| fast | not here: none | 500 ms, **2.00** times faster, 25% of the limit, 3 MB |" in [
        line.removesuffix(" >= 2 times |") for line in lines
    ]
    assert "| base |  | 1.00 s |  |" in lines
    assert "| limit: cpu fp32 | 2 GFLOP/s | 2 GFLOP/s |" in lines
    assert "| limit: cpu bf16 |  |  |" in lines


def test_only_what_lies_between_the_marks_is_written() -> None:
    text = tables.page(PAGE, [])
    assert text == f"before\n{tables.BEGIN}\n{next(tables.tables([]))}\n{tables.END}\nafter\n"
    assert tables.page(text, []) == text
    with pytest.raises(UserError, match="put them back"):
        tables.page("no marks", [])


def test_files_are_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(tables, "PAGE", tmp_path / "page.md")
    tables.PAGE.write_text(PAGE)
    given, broken = tmp_path / "given.json", tmp_path / "broken.json"
    results({"gpu": [Row("t", "x", [1.0])]}).write(given)
    results({"gpu": []}, error="killed").write(broken)
    with pytest.raises(
        SystemExit, match="gpu broke off: measure again by python -m benchmarks gpu"
    ):
        tables.main([str(broken)])
    assert tables.PAGE.read_text() == PAGE
    tables.main([str(given)])
    assert f"{tables.PAGE}" in capsys.readouterr().out
    assert [x.name for x in tables.RESULTS.iterdir()] == [f"{MACHINE.name}.json"]
    assert "| x | 1.00 s |  |" in tables.PAGE.read_text()
