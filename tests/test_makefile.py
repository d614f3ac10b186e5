"""The Makefile: its help, its word on a wrong Python, and that nothing is done twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not there")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The Makefile and the pins alone, so that nothing here touches the real environment."""
    for name in ("Makefile", "requirements.lock", "requirements-detectron2.txt"):
        shutil.copy(repository / name, tmp_path)
    return tmp_path


def test_help_is_the_default_and_lists_the_targets(copy: Path) -> None:
    listed = make(copy).stdout
    for target in ("repro", "test", "setup", "setup-gpu", "lint", "types", "lock", "clean"):
        assert f"make {target} " in listed


def test_wrong_python_is_refused_before_anything_is_made(copy: Path) -> None:
    python = copy / "python-of-another-version"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    done = make(copy, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert "Python 3.11 is needed" in done.stderr
    assert not (copy / ".venv").exists()
    assert not (copy / ".tools").exists()


def test_setup_does_nothing_when_the_pins_are_installed(copy: Path) -> None:
    pins = subprocess.run(
        ["sha256sum", "requirements.lock", "requirements-detectron2.txt"],
        cwd=copy, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (copy / ".venv" / "bin").mkdir(parents=True)
    (copy / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (copy / ".venv" / ".installed").write_text(pins.stdout)
    done = make(copy, "setup", "PYTHON=/bin/false")
    assert (done.returncode, done.stdout) == (0, "")
    with (copy / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert make(copy, "setup", "PYTHON=/bin/false").returncode != 0


def test_no_file_names_a_package_host(repository: Path) -> None:
    for name in ("Makefile", ".ci/run", "requirements.lock", "requirements.in", "pyproject.toml"):
        text = (repository / name).read_text()
        assert "index-url http" not in text
        assert "files.pythonhosted" not in text
