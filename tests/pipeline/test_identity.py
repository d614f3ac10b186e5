"""Which results count as the same, and what is said where a former one does not."""

from __future__ import annotations

import dataclasses
import os
from importlib import metadata
from pathlib import Path

import pytest

from condinst.atomic import write_json
from pipeline import identity
from pipeline.identity import FILE, Identity, explanation

NOW = Identity(
    settings={"SOLVER.BASE_LR": "0.01", "SEED": "0"},
    data="d1",
    code={"condinst.data.mapper": "a", "condinst.engine.train": "b"},
    versions={"torch": "2.14.1", "numpy": "2.4.6"},
)


def but(**changes: object) -> Identity:
    return dataclasses.replace(NOW, **changes)


def keep(folder: Path, name: str, one: Identity, age: int = 0) -> None:
    path = folder / name / FILE
    write_json(path, dataclasses.asdict(one))
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_every_part_decides_the_key() -> None:
    others = [
        but(settings={**NOW.settings, "SEED": "1"}),
        but(data="d2"),
        but(code={**NOW.code, "condinst.data.mapper": "c"}),
        but(versions={**NOW.versions, "torch": "2.13.0"}),
    ]
    assert len({NOW.key, *(one.key for one in others)}) == 5
    assert but(versions=dict(reversed(NOW.versions.items()))).key == NOW.key
    assert identity.load(Path("missing.json")) is None


def test_says_which_version_has_changed(tmp_path: Path) -> None:
    assert explanation(NOW, tmp_path) == ""
    keep(tmp_path, "same", NOW)
    assert explanation(NOW, tmp_path) == ""
    keep(tmp_path, "older", but(versions={"torch": "2.12.0", "numpy": "2.4.6"}), age=9)
    keep(tmp_path, "newer", but(versions={"torch": "2.13.0", "numpy": "2.4.6"}))
    wanted = "trained before with torch 2.13.0, now 2.14.1: this is done again"
    assert explanation(NOW, tmp_path) == wanted
    (tmp_path / "newer" / FILE).write_text("{")  # damaged: not a word about it
    assert "torch 2.12.0, now 2.14.1" in explanation(NOW, tmp_path)


def test_says_which_code_has_changed(tmp_path: Path) -> None:
    keep(tmp_path, "former", but(code={**NOW.code, "condinst.engine.train": "c"}))
    assert explanation(NOW, tmp_path, done="measured") == (
        "measured before with other code in condinst/engine/train.py: this is done again"
    )
    many = {f"condinst.m{i}": "x" for i in range(4)}
    keep(tmp_path, "former", but(code={**NOW.code, **many}))
    assert "condinst/m0.py, condinst/m1.py, condinst/m2.py and 1 more" in explanation(NOW, tmp_path)


def test_other_settings_are_named_for_the_last_result_alone(tmp_path: Path) -> None:
    keep(tmp_path, "last", but(settings={**NOW.settings, "SOLVER.BASE_LR": "0.02"}, data="d2"))
    assert explanation(NOW, tmp_path) == ""
    assert explanation(NOW, tmp_path, "gone") == ""
    assert explanation(NOW, tmp_path, "last") == (
        "trained before with SOLVER.BASE_LR 0.02, now 0.01; other data: this is done again"
    )


def test_a_new_version_trains_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = identity.versions()
    assert found["torch"] == metadata.version("torch")
    assert found["detectron2"] != "absent"  # whatever its distribution is called
    before = identity.code_hash()
    changed = {**found, "numba": "0.1"}
    monkeypatch.setattr(identity, "versions", lambda *_: changed)
    assert identity.code_hash() != before


def test_a_missing_package_has_a_version_too() -> None:
    assert identity.versions({"none": ("no-such-package", "nor-this")}) == {"none": "absent"}
