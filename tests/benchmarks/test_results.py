"""Files of results: what is written is read; what is none of these is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks._results import read
from benchmarks._rows import Row
from condinst.errors import UserError
from tests.benchmarks.simple import MACHINE, results

ROWS = [
    Row("t", "base", [1.0, 2.0], peak=0, flops=2.0, share=0.5),
    Row("t", "fast", [0.5], "base", ">= 2", moved=3.0, note="same"),
    Row("t", "none", refused="no GPU"),
]


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    whole = results({"mask_heads": ROWS, "gpu": []})
    whole.write(tmp_path / "new" / "a.json")
    found = read(tmp_path / "new" / "a.json")
    assert found.machine == MACHINE
    assert list(found.limits) == list(whole.limits)
    assert [list(row.seconds) for row in found.benchmarks["mask_heads"].rows] == [[1, 2], [0.5], []]
    assert found.benchmarks["gpu"].versions == whole.benchmarks["gpu"].versions
    found.write(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == (tmp_path / "new" / "a.json").read_text()
    assert [title for title, rows in found.tables() if len(rows) == 3] == ["t"]


def test_the_name_says_cpu_instructions_and_cores() -> None:
    assert MACHINE.name == "intel-xeon-cpu-2-1ghz-avx512-2-cores"
    other = MACHINE._replace(cpu="AMD EPYC", torch="avx2", forced=True, threads=1)
    assert other.name == "amd-epyc-avx2-forced-1-cores"
    amx = MACHINE._replace(onednn="Intel AVX-512 with Intel AMX", gpu="NVIDIA H100")
    assert amx.name == "intel-xeon-cpu-2-1ghz-avx512-amx-2-cores-nvidia-h100"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ('{"format": 1, "benchmarks": {', "is cut off"),
        ('{"images": [], "annotations": []}', "holds no results of benchmarks"),
        ("[]", "holds no results of benchmarks"),
        ('{"format": 7, "benchmarks": {}}', "has format 7, this version reads 1"),
        ('{"format": 1, "benchmarks": {}}', "not as `make bench` writes them"),
    ],
)
def test_a_broken_or_foreign_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"foreign\.json.*" + words):
        read(path)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"seconds": "long"},
        {"seconds": [0.0]},
        {"seconds": 1.0},
        {"what": 3},
        {"colour": "red"},
    ],
)
def test_a_spoiled_row_is_refused(tmp_path: Path, spoiled: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    results({"gpu": ROWS}).write(path)
    content = json.loads(path.read_text())
    content["benchmarks"]["gpu"]["rows"][0] |= spoiled
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="remove it and measure again"):
        read(path)


@pytest.mark.parametrize(("key", "value"), [("versions", None), ("date", 3), ("rows", {"a": 1})])
def test_a_spoiled_run_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "a.json"
    results({"gpu": ROWS}).write(path)
    content = json.loads(path.read_text())
    content["benchmarks"]["gpu"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="remove it and measure again"):
        read(path)


def test_a_spoiled_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    results({}).write(path)
    path.write_text(path.read_text().replace("8000000000", '"much"'))
    with pytest.raises(UserError, match="memory is 'much'"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json"):
        read(tmp_path / "none.json")
