"""Which modules count as what a module depends on, and what their fingerprints overlook."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.closure import OBSERVERS, ROOT, closure, file_of, fingerprints

Sources = Mapping[str, str]


def tree(root: Path, sources: Sources) -> Path:
    """Files with these contents; packages on the way get an empty `__init__.py`."""
    for name, text in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in [path.parent, *path.parent.parents]:
            if folder == root:
                break
            (folder / "__init__.py").touch()
    return root


def names(root: Path, entry: str, without: tuple[str, ...] = ()) -> list[str]:
    return list(closure(entry, root=root, without=without))


@pytest.mark.parametrize(
    "text",
    [
        "import condinst.low.b",
        "from condinst.low import b",
        "from condinst.low.b import thing",
        "def later():\n    from condinst.low.b import thing",
        'import importlib\nimportlib.import_module("condinst.low.b")',
        'HOOK = "condinst.low.b.thing"',
        "from .low import b",
        "from . import low\nfrom .low.b import thing",
        "try:\n    import condinst.low.b\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from condinst.low import b",
    ],
)
def test_ways_to_depend(tmp_path: Path, text: str) -> None:
    tree(tmp_path, {"condinst/a.py": text, "condinst/low/b.py": "thing = 1"})
    found = names(tmp_path, "condinst.a")
    assert found == ["condinst.a", "condinst.low", "condinst.low.b"]


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import condinst.low.b",
        "import typing\nif typing.TYPE_CHECKING:\n    from condinst.low import b",
        '"""As condinst.low.b does."""\nimport torch',
        'def f():\n    """condinst.low.b"""',
        'NAME = "condinst.low.c.thing"',
        "",
    ],
)
def test_what_is_none(tmp_path: Path, text: str) -> None:
    tree(tmp_path, {"condinst/a.py": text, "condinst/low/b.py": "thing = 1"})
    assert names(tmp_path, "condinst.a") == ["condinst.a"]


def test_packages_and_circles_are_followed(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"condinst/low/b.py": "import condinst.a", "condinst/c.py": "", "condinst/a.py": ""},
    )
    (tmp_path / "condinst/low/__init__.py").write_text("from condinst.c import thing")
    (tmp_path / "condinst/a.py").write_text("from condinst.low.b import x")
    found = names(tmp_path, "condinst.a")
    assert found == ["condinst.a", "condinst.c", "condinst.low", "condinst.low.b"]
    assert names(tmp_path, "condinst.a", without=("condinst.low",)) == ["condinst.a"]
    assert names(tmp_path, "condinst.missing") == []


def test_a_registry_counts_for_who_uses_it(tmp_path: Path) -> None:
    tree(tmp_path, {"pipeline/go.py": "from pipeline import STAGES", "pipeline/train.py": "",
                    "pipeline/other.py": "import pipeline"})  # fmt: skip
    (tmp_path / "pipeline/__init__.py").write_text('STAGES: dict = {"train": "pipeline.train"}')
    assert names(tmp_path, "pipeline.go") == ["pipeline.go", "pipeline.train"]
    assert names(tmp_path, "pipeline.other") == ["pipeline", "pipeline.other"]


def test_fingerprints_are_of_the_code_alone(tmp_path: Path) -> None:
    plain = "def f(a, b=2):\n    return a + b\n"
    same = '"""Text."""\n# why\ndef f(a,\n      b = 2):\n    """More."""\n\n    return (a + b)\n'
    other = "def f(a, b=3):\n    return a + b\n"
    tree(tmp_path, {"condinst/a.py": plain, "condinst/b.py": same, "condinst/c.py": other})
    found = fingerprints({name: tmp_path / f"condinst/{name}.py" for name in "abc"})
    assert found["a"] == found["b"] != found["c"]
    (tmp_path / "condinst/a.py").write_text(other)
    assert fingerprints({"a": tmp_path / "condinst/a.py"})["a"] == found["c"]
    assert fingerprints({}) == {}


def test_observers_are_there() -> None:
    assert [name for name in OBSERVERS if file_of(name) is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["pipeline.train.job", "pipeline.evaluate.stage"])
def test_holds_all_that_python_imports(entry: str) -> None:
    """What an import of the entry really loads is in the closure."""
    told = "print(*[m for m in sys.modules if m.split('.')[0] in ('condinst', 'pipeline')])"
    code = f"import sys, {entry}\n{told}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, capture_output=True
    )
    loaded = set(done.stdout.decode().split()) - {"condinst", "pipeline"}
    assert {entry, "condinst.modeling.detector"} <= loaded
    assert loaded <= set(closure(entry, without=()))
