"""What an interval of a difference says, in words a newcomer understands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

POWER = 0.8
FAR = 1000  # beyond so many times the images, a number would only pretend to be one


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        word: `better`, `worse` or `not told apart`.
        images_needed: Where not told apart: about how many images would tell a difference of the
            size seen, four times in five; None where that cannot be said.
        sentence: All of it in one sentence.
    """

    word: str
    images_needed: int | None
    sentence: str


def judge(
    difference: float,
    low: float,
    high: float,
    std_error: float,
    images: int,
    seeds: int = 1,
    confidence: float = 0.95,
) -> Verdict:
    """Says what a difference and its interval mean.

    Args:
        difference: Estimate, in points of percent.
        low: Lower end of the interval.
        high: Upper end.
        std_error: Standard error of the estimate.
        images: Images it was measured on.
        seeds: Trainings on each side.
        confidence: Of the interval.
    """
    measured = f"{difference:+.1f} points, {confidence:.0%} interval {low:+.1f} to {high:+.1f}"
    caution = "" if seeds > 1 else "; one training each, so luck of the seed is not in the interval"
    if low > 0 or high < 0:
        word = "better" if low > 0 else "worse"
        return Verdict(word, None, f"{word}: {measured}{caution}")
    if std_error == 0:
        return Verdict(
            "not told apart", None, f"not told apart: no difference on any draw{caution}"
        )
    needed = _needed(difference, std_error, images, confidence)
    if needed is None:
        more = f"the difference is too small to be told on up to {FAR} times as many images"
    elif seeds > 1:
        more = (
            f"a difference of this size would take about {needed:,} images, or as many times "
            f"more seeds as images ({needed / images:.1f})"
        )
    else:
        more = f"a difference of this size would take about {needed:,} images to tell"
    return Verdict(
        "not told apart",
        needed,
        f"not told apart on {images:,} images: {measured}; {more}{caution}",
    )


def _needed(difference: float, std_error: float, images: int, confidence: float) -> int | None:
    """Images at which the interval would exclude zero with the probability `POWER`."""
    reach = float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(POWER)) * std_error
    if abs(difference) * math.sqrt(FAR) < reach:
        return None
    exact = max(images * (reach / difference) ** 2, images + 1)
    digits = 10 ** max(len(str(int(exact))) - 2, 0)  # two digits: it is a rough guess
    return math.ceil(exact / digits) * digits
