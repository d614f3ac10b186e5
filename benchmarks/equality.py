"""How far is the model from the numbers recorded of both public implementations?

`python -m benchmarks.equality FOLDER` prints one row for each recorded case (FOLDER holds the
``.pt`` files): the relative error of the loss terms at each of five steps of SGD, of the whole
gradient's norm and of the worst parameter's, and the share of detections that find their partner.
What passes a fixed limit is held to the model's own spread on this machine: see
`tests.condinst.descent`. Exits with 1 where a case is not equal. ``--case NAME``: that one alone,
``--case none``: none.

A second table needs no recordings: a whole detector that learns masks from boxes by the definition,
pixel by pixel, beside ours in double precision (`tests.condinst.modeling.slow_detector`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.condinst import parity
from tests.condinst.descent import Verdict, allowed, judge
from tests.condinst.modeling.slow_detector import CASES, differences

_DEFINITION = 1e-6  # relative, in double precision


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/parity"))
    parser.add_argument("--case", action="append", choices=[*parity.RECORDED, "none"], default=[])
    given = parser.parse_args()
    over, names = [], [x for x in given.case or parity.RECORDED if x != "none"]
    if given.folder.is_dir() and names:
        over += _recorded(given.folder, names)
    elif names:
        print(f"{given.folder} is not there: the recorded cases are not part of the repository")
    over += _by_definition()
    if over:
        sys.exit("Not equal:\n" + "\n".join(over))


def _recorded(folder: Path, names: Sequence[str]) -> list[str]:
    """Prints the table of the recordings; what is not equal."""
    table = Table("case", "SGD, each of five steps", "gradient", "worst parameter", "detections")
    over = []
    for name in names:
        case = parity.recorded_case(folder, name)
        verdict = judge(lambda case=case: parity.recorded_model(case), case)
        found = parity.detect(parity.recorded_model(case), case)
        share = parity.share_matched(found, case["detections"])
        table.add_row(name, *_cells(verdict), f"{share:.1%}")
        over += [f"{name}: {line}" for line in verdict.over]
        if share < parity.LEAST_SHARE:
            over.append(f"{name}: {share:.1%} of detections, at least {parity.LEAST_SHARE:.0%}")
    Console(width=140).print(table)
    return over


def _by_definition() -> list[str]:
    """Prints the table of masks from boxes; what is not equal."""
    table = Table("masks from boxes", "losses", "every parameter's gradient", "by compiled loops")
    over = []
    for name, case in CASES.items():
        readable, compiled = differences(case), differences(case, "numba")
        table.add_row(
            name, *(f"{x:.0e}" for x in readable), ", ".join(f"{x:.0e}" for x in compiled)
        )
        if not max(*readable, *compiled) < _DEFINITION:
            over.append(f"{name}: {readable}, {compiled}, allowed {_DEFINITION:.0e}")
    Console(width=140).print(table)
    return over


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
