"""Downloads under every fault, from a server on this machine; prints the outcomes as a table.

The cases are those of the tests; a wrong file or another outcome ends the run with an error.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.pipeline.download_faults import FAULTS, WHOLE, outcome


def main() -> None:
    """Brings about all faults and prints a Markdown table."""
    print("| fault | outcome | s |\n|---|---|---:|")
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as name:
            began = time.perf_counter()
            text = outcome(fault, Path(name))
            seconds = time.perf_counter() - began
        if fault.outcome not in text:
            raise SystemExit(f"{fault.name}: {text}, expected {fault.outcome}")
        said = text if text == WHOLE else f"error: {text}"
        print(f"| {fault.name} | {said} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
