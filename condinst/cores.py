"""The CPU: its cores and its name."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor_name() -> str:
    """The CPU's model as its maker calls it, else its architecture."""
    about = Path("/proc/cpuinfo")  # Linux only, and not on every ARM
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    if sys.platform == "darwin":
        words = ["sysctl", "-n", "machdep.cpu.brand_string"]
        names = [subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()]
    return next(iter(names), "") or platform.processor() or platform.machine()
