"""What the command line may set for one training besides its parameters."""

from __future__ import annotations

import dataclasses
import re

from condinst.errors import UserError


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """For one call of ``train``.

    Attributes:
        max_seconds: after which to stop; the same command resumes. 0: no limit.
        skip_preflight: train even if the preflight check refuses.
        overfit: train on only this many images.
        fast_dev_run: a few steps through everything that a training does.
        detect_anomaly: name the operation that produced the first NaN.
        profile: record where the time of a few steps goes.
    """

    max_seconds: float = 0.0
    skip_preflight: bool = False
    overfit: int = 0
    fast_dev_run: bool = False
    detect_anomaly: bool = False
    profile: bool = False

    @property
    def debugs(self) -> bool:
        """Whether this is a debug run rather than a training."""
        return bool(self.overfit or self.fast_dev_run or self.detect_anomaly or self.profile)


def seconds_of(text: str) -> float:
    """Parse a time as people write it: ``90``, ``45s``, ``30m``, ``1.5h``, ``2d``, ``1:30:00``.

    Raises:
        UserError: it is none of these, or not above 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found:
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    elif re.fullmatch(r"\d+:\d\d:\d\d", text.strip()):
        hours, minutes, rest = map(int, text.split(":"))
        seconds = float(hours * 3600 + minutes * 60 + rest)
    else:
        seconds = 0.0
    if seconds <= 0:
        raise UserError(f"--max-time {text!r} must be a time such as 90s, 30m, 1.5h or 1:30:00")
    return seconds
