"""What an interval of a difference says, in words a newcomer understands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from condinst.evaluation.distributions import normal_quantile

POWER = 0.8
MARGIN = 0.3  # points of AP within which two results are the same for practice
FAR = 1000  # beyond so many times the images, a number would only pretend to be one
BETTER, WORSE, SAME, OPEN = "better", "worse", "the same for practice", "not told apart"
ONE_TRAINING = "on these images, one training each"


@dataclass(frozen=True)
class Evidence:
    """A difference and how sure it is, in points of percent.

    Attributes:
        difference: Estimate.
        low: Lower end of its interval.
        high: Upper end.
        image_variance: Of the estimate, from the choice of images.
        seed_variance: Of the estimate, from the luck of training; None with one training each.
        images: It was measured on.
        seeds: Trainings on each side.
        confidence: With which all intervals of the study hold together.
        level: With which this one holds alone, the same where nothing else was compared.
    """

    difference: float
    low: float
    high: float
    image_variance: float
    seed_variance: float | None
    images: int
    seeds: int = 1
    confidence: float = 0.95
    level: float = 0.95


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        word: `better`, `worse`, `the same for practice` or `not told apart`.
        phrase: The word, and what it is limited to where there was one training each.
        smallest: The smallest difference that so many images and seeds tell, four times in five.
        images_needed: Where not told apart: images that would tell a difference of the margin as
            often; None where no number of images alone would.
        seeds_needed: Likewise seeds; None with one seed.
        sentence: All of it in one sentence.
    """

    word: str
    phrase: str
    smallest: float
    images_needed: int | None
    seeds_needed: int | None
    sentence: str


def judge(found: Evidence, margin: float = MARGIN) -> Verdict:
    """Says what a difference and its interval mean.

    An interval within the margin says `the same for practice`, even where it leaves zero out.

    Args:
        found: The difference.
        margin: Points that make no difference in practice, above 0.
    """
    assert margin > 0, margin
    reach = normal_quantile((1 + found.level) / 2) + normal_quantile(POWER)
    smallest = reach * math.sqrt(found.image_variance + (found.seed_variance or 0.0))
    kind = "interval" if found.level == found.confidence else "simultaneous interval"
    measured = (
        f"{found.difference:+.1f} points, {found.confidence:.0%} {kind} "
        f"{found.low:+.1f} to {found.high:+.1f}"
    )
    word = _word(found, margin)
    if word == OPEN:
        images, seeds = _needed(found, (margin / reach) ** 2)
        caution = (
            "" if found.seeds > 1 else "; one training each, the luck of the seed comes on top"
        )
        more = way_to_tell(images, seeds, found.seeds)
        sentence = (
            f"{OPEN} on {found.images:,} images: {measured}; a difference of {smallest:.1f} would "
            f"have been told four times in five, one of {margin:g} {more}{caution}"
        )
        return Verdict(word, word, smallest, images, seeds, sentence)
    phrase = word if found.seeds > 1 else f"{word} {ONE_TRAINING}"
    within = f", within {margin:g}" if word == SAME else ""
    return Verdict(word, phrase, smallest, None, None, f"{phrase}: {measured}{within}")


def _word(found: Evidence, margin: float) -> str:
    if -margin <= found.low and found.high <= margin:
        return SAME
    if found.low > 0 or found.high < 0:
        return BETTER if found.low > 0 else WORSE
    return OPEN


def _needed(found: Evidence, variance: float) -> tuple[int | None, int | None]:
    """Images and seeds, each alone, that bring the estimate's variance down to this one."""
    rest = variance - (found.seed_variance or 0.0)
    images = seeds = None
    if rest > 0:
        exact = found.images * found.image_variance / rest
        if exact <= found.images * FAR:
            images = _rough(max(exact, found.images + 1))
    rest = variance - found.image_variance
    if found.seed_variance and rest > 0:
        exact = found.seeds * found.seed_variance / rest
        if exact <= found.seeds * FAR:
            seeds = max(math.ceil(exact), found.seeds + 1)
    return images, seeds


def way_to_tell(images: int | None, seeds: int | None, had: int) -> str:
    """What would tell a difference, in words, with the seeds that there were."""
    ways = [f"about {images:,} images"] if images else []
    ways += [f"about {seeds:,} seeds"] if seeds else []
    if ways:
        return f"would take {' or '.join(ways)}"
    if had > 1:
        return "would take both more images and more seeds"
    return f"could not be told on {FAR} times as many images"


def _rough(exact: float) -> int:
    """Rounded up to two digits: it is a rough guess."""
    digits = 10 ** max(len(str(int(exact))) - 2, 0)
    return math.ceil(exact / digits) * digits
