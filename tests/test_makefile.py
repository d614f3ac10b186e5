"""The Makefile: its help, which Python it takes, and that nothing is done twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from pipeline import project

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not there")
NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")


def make(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    # what `make test PYTHON=...` hands on to every make below it
    passed = ("PYTHON", "ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if name not in passed}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={**kept, "PATH": path + os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The Makefile and the pins alone, so that nothing here touches the real environment."""
    for name in ("Makefile", "requirements.lock", "requirements-detectron2.txt"):
        shutil.copy(repository / name, tmp_path)
    return tmp_path


@pytest.fixture
def pythons(tmp_path: Path) -> Path:
    """A folder of all names that make tries, each a version manager's shim that does not run."""
    folder = tmp_path / "pythons"
    folder.mkdir()
    for name in NAMES:
        put(folder / name, f'echo "{name}: command not found" >&2; exit 127')
    return folder


def put(program: Path, script: str) -> Path:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def put_python(program: Path, version: str) -> Path:
    """A Python that takes itself for one of another version."""
    pretence = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0)"
    return put(
        program,
        f'[ "$1" = --version ] && echo "Python {version}.0" && exit\n'
        f'exec {sys.executable} -c "{pretence}\n$2"',
    )


def installed(copy: Path) -> None:
    """Put an environment there that holds the pins."""
    pins = subprocess.run(
        ["cksum", "requirements.lock", "requirements-detectron2.txt"],
        cwd=copy, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (copy / ".venv" / "bin").mkdir(parents=True)
    put_python(copy / ".venv" / "bin" / "python", "3.12")
    (copy / ".venv" / ".installed").write_text(pins.stdout)


def test_help_is_the_default_and_lists_the_targets(copy: Path) -> None:
    listed = make(copy).stdout
    for target in (
        "repro",
        "test",
        "quick",
        "setup",
        "setup-gpu",
        "lint",
        "types",
        "lock",
        "clean",
    ):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3.11": "3.11", "python3.13": "3.13", "python3": "3.11"}, "python3.13"),
        ({"python3": "3.12"}, "python3"),
        ({"python3": "3.10", "python": "3.11"}, "python"),
        ({"python3": "3.15", "python3.14": "3.14"}, "python3.14"),
    ],
)
def test_takes_the_newest_python_that_runs(
    there: dict[str, str], taken: str, copy: Path, pythons: Path
) -> None:
    for name, version in there.items():
        put_python(pythons / name, version)
    assert f'python="{taken}"' in make(copy, "-n", "install", path=f"{pythons}:").stdout


def test_no_python_of_the_range(copy: Path, pythons: Path) -> None:
    put_python(pythons / "python3", "3.10")
    done = make(copy, "setup", path=f"{pythons}:")
    assert done.returncode != 0
    assert "Python 3.11 to 3.14 with venv is needed, none was found" in done.stderr
    assert not (copy / ".tools").exists()


def test_python_out_of_range_is_refused_before_anything_is_made(copy: Path) -> None:
    python = put_python(copy / "python-of-another-version", "3.10")
    done = make(copy, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"Python 3.11 to 3.14 is needed, PYTHON={python} is Python 3.10.0" in done.stderr
    assert not (copy / ".venv").exists()
    assert not (copy / ".tools").exists()


def test_setup_does_nothing_when_the_pins_are_installed(copy: Path, pythons: Path) -> None:
    installed(copy)
    done = make(copy, "setup", path=f"{pythons}:")
    assert (done.returncode, done.stdout) == (0, "")
    with (copy / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert make(copy, "setup", path=f"{pythons}:").returncode != 0


@pytest.mark.parametrize(("version", "again"), [("3.12", False), ("3.13", True)])
def test_a_named_python_of_another_version_sets_up_again(
    version: str, again: bool, copy: Path
) -> None:
    installed(copy)
    python = put_python(copy / "python-named", version)
    assert ("pip install" in make(copy, "-n", "setup", f"PYTHON={python}").stdout) == again


def test_pythons_are_those_of_pyproject(repository: Path) -> None:
    listed = re.search(r"^PYTHONS := (.+)$", (repository / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    named = SpecifierSet(project.pythons())
    assert listed[1].split() == [f"3.{m}" for m in range(30, 0, -1) if f"3.{m}" in named]


def test_lock_names_no_host_and_has_a_hash_for_all(repository: Path) -> None:
    for name in ("requirements.lock", "requirements-detectron2.txt"):
        text = (repository / name).read_text()
        assert "://" not in text
        assert "index-url" not in text
        pinned = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
        assert pinned
        assert all("--hash=sha256:" in package for package in pinned)


def test_lock_asks_for_gpu_packages_on_linux_alone(repository: Path) -> None:
    lines = (repository / "requirements.lock").read_text().splitlines()
    of_linux = [line for line in lines if line.startswith(("nvidia-", "cuda-", "triton=="))]
    assert len(of_linux) > 10
    assert all("sys_platform == 'linux'" in line for line in of_linux)
