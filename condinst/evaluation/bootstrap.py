"""How sure a score is: bootstrap over images.

The images of the dataset are drawn with replacement, and everything is measured on each
draw. An image drawn twice counts twice. All results on the same data see the same draws, so that
what is easy or hard for both cancels in their difference (`differences`).

What an interval covers: other images of the same kind, not other trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from condinst.errors import UserError
from condinst.evaluation import accumulating, scores
from condinst.evaluation.distributions import normal_share, t_quantile
from condinst.evaluation.matching import Matches
from condinst.evaluation.scores import NUMBERS

EVERY = "all"  # stands for the mean over categories


@dataclass(frozen=True)
class Samples:
    """Scores of one result on the data and on every draw; B draws, in percent, NaN if undefined.

    Attributes:
        estimate: Category or `all` to name to score on the data itself, as pycocotools gives it.
        draws: Category or `all` to (B, 12) scores.
        images: Number of images.
    """

    estimate: Mapping[str, Mapping[str, float | None]]
    draws: Mapping[str, np.ndarray]
    images: int


@dataclass(frozen=True)
class Interval:
    """A score and what the draws say of it, in percent."""

    estimate: float
    low: float
    high: float
    std_error: float


def image_draws(images: int, draws: int, seed: int) -> np.ndarray:
    """(B, I): how often each draw holds each image; the same for the same three numbers."""
    if images < 1 or draws < 2:
        raise UserError(
            f"bootstrap over {images} images with {draws} draws: needs 1 and 2 at least"
        )
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.int16)


def sample(matches: Matches, multiplicities: np.ndarray) -> Samples:
    """Scores of one result on the data and on every draw.

    Args:
        matches: The result, matched with the objects.
        multiplicities: As `image_draws` gives them.
    """
    names = list(matches.category_names)
    found = accumulating.group_events(matches)
    once = accumulating.accumulate(found, np.ones(len(matches.image_ids), dtype=np.int64))
    numbers = accumulating.draw_numbers(found, multiplicities) * 100  # (B, K, 12)
    present = ~np.isnan(numbers)
    with np.errstate(invalid="ignore"):  # a draw may hold no object of a size
        mean = np.where(present, numbers, 0).sum(axis=1) / present.sum(axis=1)
    return Samples(
        estimate={EVERY: scores.summarise(once), **scores.summarise_classes(once, names)},
        draws={EVERY: mean, **{name: numbers[:, k] for k, name in enumerate(names)}},
        images=len(matches.image_ids),
    )


def confidence_intervals(
    samples: Samples, confidence: float = 0.95, category: str = EVERY
) -> dict[str, Interval | None]:
    """Intervals of one result's twelve numbers; None where undefined."""
    intervals: dict[str, Interval | None] = {}
    for column, name in enumerate(NUMBERS):
        estimate = samples.estimate[category][name]
        drawn = defined(samples.draws[category][:, column])
        intervals[name] = None
        if estimate is not None and drawn is not None:
            low, high = ends(drawn, confidence, samples.images)
            intervals[name] = Interval(estimate, low, high, float(drawn.std(ddof=1)))
    return intervals


def mean_interval(
    results: Sequence[Samples], number: str, confidence: float = 0.95, category: str = EVERY
) -> Interval | None:
    """Interval of one number's mean over trainings that differ in their seed alone.

    It covers other images and, with several trainings, other seeds, as that of a difference does.
    Two such intervals may overlap where the paired difference is told from zero, since what is hard
    for both does not cancel here.

    Args:
        results: one a seed, all with the same `image_draws`.
        number: of `NUMBERS`.
        confidence: of the interval.
        category: name of the category, or `all`.

    Returns:
        Within 0 and 100; None where the number is undefined.
    """
    column = NUMBERS.index(number)
    each = [one for samples in results if (one := samples.estimate[category][number]) is not None]
    if not each:
        return None
    drawn = defined(np.mean([samples.draws[category][:, column] for samples in results], axis=0))
    if drawn is None:
        return None
    estimate, std_error = float(np.mean(each)), float(drawn.std(ddof=1))
    low, high = ends(drawn, confidence, results[0].images)
    if len(each) > 1:
        of_seeds = float(np.var(each, ddof=1)) / len(each)
        std_error, freedom = with_seeds(std_error**2, results[0].images, of_seeds, len(each) - 1)
        reach = t_quantile((1 + confidence) / 2, freedom) * std_error
        low, high = estimate - reach, estimate + reach
    return Interval(estimate, max(low, 0.0), min(high, 100.0), std_error)


def with_seeds(of_images: float, images: int, of_seeds: float, freedom: int) -> tuple[float, float]:
    """Standard error from images and seeds, its degrees of freedom (Welch and Satterthwaite).

    Args:
        of_images: Variance of the mean over seeds, from the choice of images.
        images: Number of images.
        of_seeds: Variance of that mean, from the luck of training.
        freedom: Degrees of freedom that `of_seeds` was estimated with.
    """
    total = of_images + of_seeds
    if total == 0:
        return 0.0, 1.0
    per_freedom = of_seeds**2 / freedom + of_images**2 / max(images - 1, 1)
    return total**0.5, total**2 / per_freedom


def defined(drawn: np.ndarray) -> np.ndarray | None:
    """Draws in which the score exists; None if most have nothing to find."""
    kept = drawn[~np.isnan(drawn)]
    return kept if len(kept) >= max(2, len(drawn) / 2) else None


def ends(
    drawn: np.ndarray, confidence: float, images: int, level: float | None = None
) -> tuple[float, float]:
    """Ends of the percentile interval, expanded for few images (Hesterberg, arXiv 1411.5279).

    Plain percentiles are too narrow by about what the t distribution is wider than the normal
    one, and by the square root of n / (n - 1).

    At a higher level than `confidence` the percentiles would lie among the last few draws; the
    ends move outwards from the median by the ratio of the critical values instead.
    """
    n = max(images, 2)
    reach = t_quantile((1 + confidence) / 2, n - 1) * (n / (n - 1)) ** 0.5
    tail = normal_share(-reach)
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail])
    if level is not None and level > confidence:
        wider = [t_quantile((1 + share) / 2, n - 1) for share in (level, confidence)]
        low, high = (middle + (end - middle) * wider[0] / wider[1] for end in (low, high))
    return float(low), float(high)
