"""All tables of speed, one after the other: `python -m benchmarks [NAME ...]`, or `make bench`.

Prints Markdown and keeps it in ``outputs/benchmarks.md``. Every script can be run on its own as
well; those that check something else than speed (kills, equality, backend_training) are not here.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SCRIPTS = (
    "mask_heads",
    "box_losses",
    "targets",
    "inference",
    "train_step",
    "evaluation",
    "bootstrap",
    "data_scale",
    "gpu",
)
OUTPUT = Path("outputs/benchmarks.md")


def machine() -> str:
    """What the figures were taken on."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    avx = "with" if any(" avx512f" in line for line in lines) else "without"
    amx = "with" if any(" amx_bf16" in line for line in lines) else "without"
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {avx} AVX-512, {amx} AMX; 2 threads"


def command(name: str) -> list[str]:
    """What measures one table."""
    return [sys.executable, "-m", f"benchmarks.{name}"]


def run(name: str, say: Callable[[str], None]) -> bool:
    """One script's table, said line by line; whether it ended well."""
    began = time.perf_counter()
    say(f"\n### `python -m benchmarks.{name}`\n")
    child = subprocess.Popen(
        command(name),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert child.stdout is not None
    for line in child.stdout:
        say(line)
    if child.wait():
        say(f"\nFailed with status {child.returncode}.\n")
    say(f"\nTook {time.perf_counter() - began:.0f} s.\n")
    return child.returncode == 0


def main(given: Sequence[str] | None = None) -> None:
    """Runs the scripts; what one cannot do does not stop the others, but the exit code is 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}")
    names = parser.parse_args(given).names or SCRIPTS
    unknown = sorted(set(names) - set(SCRIPTS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: use {', '.join(SCRIPTS)}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with OUTPUT.open("w") as kept:

        def say(text: str) -> None:
            print(text, end="", flush=True)
            kept.write(text)
            kept.flush()  # what was measured is kept, whatever comes next

        say(f"{machine()}. Load before: {os.getloadavg()[0]:.1f}.\n")
        failed = [name for name in names if not run(name, say)]
        if failed:
            say(f"\nFailed: {', '.join(failed)}.\n")
    print(f"Kept in {OUTPUT}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
