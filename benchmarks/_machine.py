"""The machine that figures are taken on, as its libraries see it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from condinst.errors import UserError

PACKAGES = ("torch", "numba", "numpy", "detectron2", "hotcoco", "pycocotools")
# What makes torch, oneDNN, MKL and numba compute as on an older CPU. numba adds the features of the
# CPU at hand to those of the name, unless told none.
ISAS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
    }
}
_FLAGS = ("neon", "asimd", "sve", "avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of Linux
_NOWHERE = subprocess.DEVNULL
_ROOT = Path(__file__).resolve().parent.parent


class Machine(NamedTuple):
    """What decides the figures, apart from the code; plain values."""

    cpu: str
    flags: str  # instruction sets of the CPU itself
    torch: str  # what each library uses, after what was forced
    onednn: str
    numba: str
    forced: bool
    threads: int
    cores: int
    memory: int  # bytes
    gpu: str

    @property
    def name(self) -> str:
        """For a file: CPU, instruction set, cores in use."""
        used = f"{self.torch} amx" if "AMX" in self.onednn.upper() else self.torch
        forced = "forced" if self.forced else ""
        text = f"{self.cpu} {used} {forced} {self.threads} cores {self.gpu}"
        return "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)", "", text.lower())))

    def lines(self) -> Iterator[tuple[str, str]]:
        """What to print."""
        yield "CPU", f"{self.cpu}, {self.cores} cores, {self.memory / 1e9:.0f} GB"
        yield "instruction sets of the CPU", self.flags or "not known"
        forced = "; forced" if self.forced else ""
        yield "used", f"torch {self.torch}; oneDNN {self.onednn}; numba {self.numba}{forced}"
        yield "threads", str(self.threads)
        yield "GPU", self.gpu or "none"


def force(isa: str) -> None:
    """Sets what torch and numba read when they are imported.

    Raises:
        UserError: this is another kind of CPU.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UserError(f"--isa {isa} is of x86 CPUs, this is {platform.machine()}: leave it out")
    os.environ.update(ISAS[isa])


def machine() -> Machine:
    """Looks at this one; computes a little, so in a process of its own."""
    import torch
    from numba.core import config
    from numba.core.codegen import ll

    from condinst.cores import available_cores, processor_name

    return Machine(
        cpu=processor_name(),
        flags=", ".join(flag for flag in _FLAGS if flag in _cpu_flags()),
        torch=torch.backends.cpu.get_cpu_capability().lower(),
        onednn=_onednn(),
        numba=config.CPU_NAME or ll.get_host_cpu_name(),
        forced=any(name in os.environ for name in ISAS["avx2"]),
        threads=torch.get_num_threads(),
        cores=available_cores(),
        memory=psutil.virtual_memory().total,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the figures; ``none`` of one that is missing."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = _version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def commit() -> str:
    """The project's, with a ``+`` where files were changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str:
    if package != "detectron2":
        return importlib.metadata.version(package)
    import detectron2  # its distribution has another name

    return detectron2.__version__


def _cpu_flags() -> set[str]:
    about = Path("/proc/cpuinfo")
    if not about.is_file():
        return {"neon"} if platform.machine() == "arm64" else set()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", about.read_text(), re.MULTILINE)
    return set(found[1].split()) if found else set()


def _onednn() -> str:
    """The instruction set that oneDNN says it uses, in words of its own."""
    import torch
    import torch.nn.functional as F

    if not torch.backends.mkldnn.is_available():
        return "not there"
    with tempfile.TemporaryFile() as file:
        stdout = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                F.conv2d(torch.rand(1, 64, 32, 32), torch.rand(64, 64, 3, 3))
            _flush()
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        file.seek(0)
        found = re.search(r"info,cpu,isa:(.+)", file.read().decode(errors="replace"))
    return found[1].strip() if found else "not known"


def _flush() -> None:
    """Of what C has written."""
    import ctypes

    libc: Any = ctypes.CDLL(None)
    libc.fflush(None)
