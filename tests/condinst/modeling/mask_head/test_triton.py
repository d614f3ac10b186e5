"""The Triton backend: kernels in the interpreter, compiled for a GPU that need not be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from condinst.modeling.mask_head.triton_backend import TritonBackend, is_installed
from tests.condinst.modeling.mask_head.test_reference import SPEC

pytestmark = pytest.mark.skipif(not is_installed(), reason="triton comes with torch on Linux")
HERE = Path(__file__).parent


def run(
    repository: Path, *command: str, interpret: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    return subprocess.run(
        [sys.executable, *command],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the interpreter takes a minute of a quiet core, several of a busy one
@pytest.mark.parametrize("cases", ["triton_cases.py", "triton_box_cases.py"])
def test_kernels_give_the_references_numbers(repository: Path, cases: str) -> None:
    cases = str(HERE / cases)
    done = run(repository, "-m", "pytest", "-q", "-p", "no:cacheprovider", cases, interpret=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(repository: Path, tmp_path: Path) -> None:
    done = run(repository, str(HERE / "triton_compile.py"), str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == [
        "logits_kernel",
        "sums_kernel",
        "sums_backward_kernel",
        "network_backward_kernel",
        "masks_kernel",
        "shadows_kernel",
        "pairs_kernel",
        "boxes_backward_kernel",
    ]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = TritonBackend().unsupported(SPEC, torch.device("cpu"))
    assert reason == "it needs a GPU, the model is on cpu"
    assert TritonBackend().unsupported(SPEC, torch.device("cuda")) is None
