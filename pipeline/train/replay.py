"""The verb ``replay``: repeat the step of a dump."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from condinst.replay import load_dump, replay
from pipeline.train.job import load_cfg


def run(dump: Path, detect_anomaly: bool = False) -> None:
    """Repeat the step; print what differs from the record, and which gradients are not finite.

    Args:
        dump: a file that a training left in ``nonfinite/``.
        detect_anomaly: make torch raise at the operation that produced the first NaN.
    """
    content = load_dump(dump)
    cfg = load_cfg(content["config"])
    cfg.DEBUG.DETECT_ANOMALY = detect_anomaly
    found = replay(content, cfg)
    rows = [f"step {found.step}, rank {content['rank']} of {found.workers}"]
    for name, value in found.losses.items():
        before = found.recorded.get(name, math.nan)
        same = value == before or (math.isnan(value) and math.isnan(before))
        rows.append(f"  {name}: {value:.6g} (then {before:.6g}{'' if same else ', differs'})")
    if all(map(math.isfinite, found.losses.values())) and not found.bad_gradients:
        rows.append("loss and gradients are finite: the step does not fail here")
        if found.workers > 1:
            rows.append("the normalisers are from this worker's images only")
    else:
        bad = found.bad_gradients
        rows.append(f"not finite again; gradients of {len(bad)} parameters: {', '.join(bad[:5])}")
    sys.stdout.write("\n".join(rows) + "\n")
