"""How far is the model from the numbers recorded of both public implementations?

`python -m benchmarks.equality FOLDER` prints one row for each recorded case (FOLDER holds the
``.pt`` files): the relative error of the loss terms at each of five steps of SGD, of the whole
gradient's norm and of the worst parameter's, and the share of detections that find their partner.
What passes a fixed limit is held to the model's own spread on this machine: see
`tests.condinst.descent`. Exits with 1 where a case is not equal.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.condinst import parity
from tests.condinst.descent import Verdict, allowed, judge


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/parity"))
    folder = parser.parse_args().folder
    if not folder.is_dir():
        print(f"{folder} is not there: the recorded cases are not part of the repository")
        return
    table = Table("case", "SGD, each of five steps", "gradient", "worst parameter", "detections")
    over = []
    for name in parity.RECORDED:
        case = parity.recorded_case(folder, name)
        verdict = judge(lambda case=case: parity.recorded_model(case), case)
        found = parity.detect(parity.recorded_model(case), case)
        share = parity.share_matched(found, case["detections"])
        table.add_row(name, *_cells(verdict), f"{share:.1%}")
        over += [f"{name}: {line}" for line in verdict.over]
        if share < parity.LEAST_SHARE:
            over.append(f"{name}: {share:.1%} of detections, at least {parity.LEAST_SHARE:.0%}")
    Console(width=140).print(table)
    if over:
        sys.exit("Not equal:\n" + "\n".join(over))


def _cells(verdict: Verdict) -> tuple[str, str, str]:
    """With the limit in brackets where it is the model's own spread."""
    errors, limits, _, _ = verdict
    fixed = allowed(errors, [])
    steps = [_cell(*x) for x in zip(errors.steps, limits.steps, fixed.steps, strict=True)]
    worst = max(errors.norms, key=errors.norms.__getitem__)
    parameter = _cell(errors.norms[worst], limits.norms[worst], fixed.norms[worst])
    return ", ".join(steps), f"{errors.whole:.0e}", parameter


def _cell(error: float, limit: float, fixed: float) -> str:
    return f"{error:.0e}" + (f" ({limit:.0e})" if limit > fixed else "")


if __name__ == "__main__":
    main()
