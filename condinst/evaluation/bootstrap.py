"""How sure a score, or the difference of two, is: bootstrap over images.

The images of the dataset are drawn with replacement, and everything is measured on each
draw. An image drawn twice counts twice. All results on the same data see the same draws, so that
what is easy or hard for both cancels in their difference.

What the interval covers: other images of the same kind. Other trainings only where results of
several seeds are given: then the variance between the seeds is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from condinst.errors import UserError
from condinst.evaluation import accumulating, scores
from condinst.evaluation.matching import Matches
from condinst.evaluation.scores import NUMBERS
from condinst.evaluation.verdict import Verdict, judge

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


@dataclass(frozen=True)
class Difference:
    """One score of two results on the same data, in percent.

    Attributes:
        category: Name of the category, or `all`.
        metric: Of `NUMBERS`.
        a: The baseline's score, mean over its seeds.
        b: The other's.
        difference: b - a.
        low: Lower end of the interval of the difference.
        high: Upper end.
        std_error: Standard error of the difference.
        seeds: Trainings on each side.
        seed_std: Standard deviation of the difference between seeds; None with one seed.
        verdict: What follows, in words.
    """

    category: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    std_error: float
    seeds: int
    seed_std: float | None
    verdict: Verdict


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
        drawn = _defined(samples.draws[category][:, column])
        intervals[name] = None
        if estimate is not None and drawn is not None:
            low, high = _ends(drawn, confidence, samples.images)
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
    drawn = _defined(np.mean([samples.draws[category][:, column] for samples in results], axis=0))
    if drawn is None:
        return None
    estimate, std_error = float(np.mean(each)), float(drawn.std(ddof=1))
    low, high = _ends(drawn, confidence, results[0].images)
    if len(each) > 1:
        std_error, reach = _with_seeds(drawn, np.array(each), results[0].images, confidence)
        low, high = estimate - reach, estimate + reach
    return Interval(estimate, max(low, 0.0), min(high, 100.0), std_error)


def paired_bootstrap(
    a: Matches | Sequence[Matches],
    b: Matches | Sequence[Matches],
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[Difference, ...]:
    """Compares two results on the same data.

    Args:
        a: The baseline's matches; several if it was trained with several seeds.
        b: The other's, in the same order of seeds.
        draws: Number of draws.
        confidence: Of the intervals, between 0 and 1.
        seed: Of the draws.

    Returns:
        Differences b - a of the twelve numbers, over all categories and for each.

    Raises:
        UserError: If the results are not on the same data.
    """
    first = [a] if isinstance(a, Matches) else list(a)
    second = [b] if isinstance(b, Matches) else list(b)
    check_same_data([*first, *second])
    multiplicities = image_draws(len(first[0].image_ids), draws, seed)
    return differences(
        [sample(matches, multiplicities) for matches in first],
        [sample(matches, multiplicities) for matches in second],
        confidence,
    )


def check_same_data(results: Sequence[Matches]) -> None:
    """Raises UserError unless all were matched with the same objects in the same way."""
    one = results[0]
    for other in results[1:]:
        if one.task != other.task or one.max_dets != other.max_dets:
            raise UserError(
                f"results of {one.task} at {one.max_dets} detections and of {other.task} at "
                f"{other.max_dets} cannot be compared: evaluate both in the same way"
            )
        same = one.category_names == other.category_names and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("image_ids", "object_image", "object_category", "object_counts")
        )
        if not same:
            raise UserError(
                "the results were measured on different data and cannot be compared: "
                "evaluate both runs on the same images and annotations"
            )


def differences(
    a: Sequence[Samples], b: Sequence[Samples], confidence: float = 0.95
) -> tuple[Difference, ...]:
    """`paired_bootstrap` from samples already drawn, all with the same `image_draws`.

    Args:
        a: The baseline's, one a seed.
        b: The other's, in the same order of seeds.
        confidence: Of the intervals.
    """
    if len(a) != len(b):
        raise UserError(f"{len(a)} seeds cannot be paired with {len(b)}: use the same for both")
    found = []
    for category in a[0].estimate:
        for column, metric in enumerate(NUMBERS):
            one = _difference(a, b, category, metric, column, confidence)
            if one is not None:
                found.append(one)
    return tuple(found)


def _difference(
    a: Sequence[Samples],
    b: Sequence[Samples],
    category: str,
    metric: str,
    column: int,
    confidence: float,
) -> Difference | None:
    before = [samples.estimate[category][metric] for samples in a]
    after = [samples.estimate[category][metric] for samples in b]
    pairs = [(x, y) for x, y in zip(before, after, strict=True) if x is not None and y is not None]
    drawn = _defined(
        np.mean(
            [
                y.draws[category][:, column] - x.draws[category][:, column]
                for x, y in zip(a, b, strict=True)
            ],
            axis=0,
        )
    )
    if not pairs or drawn is None:
        return None
    each = np.array([y - x for x, y in pairs])
    difference = float(each.mean())
    std_error = float(drawn.std(ddof=1))
    seed_std = None
    low, high = _ends(drawn, confidence, a[0].images)
    if len(each) > 1:
        seed_std = float(each.std(ddof=1))
        std_error, reach = _with_seeds(drawn, each, a[0].images, confidence)
        low, high = difference - reach, difference + reach
    verdict = judge(difference, low, high, std_error, a[0].images, len(each), confidence)
    means = np.array(pairs).mean(axis=0)
    return Difference(
        category, metric, float(means[0]), float(means[1]), difference, low, high, std_error,
        len(each), seed_std, verdict,
    )  # fmt: skip


def _with_seeds(
    drawn: np.ndarray, each: np.ndarray, images: int, confidence: float
) -> tuple[float, float]:
    """Standard error and half width from images and seeds together (Welch and Satterthwaite)."""
    of_images = float(drawn.var(ddof=1))
    of_seeds = float(each.var(ddof=1)) / len(each)
    total = of_images + of_seeds
    if total == 0:
        return 0.0, 0.0
    freedom = total**2 / (of_seeds**2 / (len(each) - 1) + of_images**2 / max(images - 1, 1))
    return total**0.5, float(stats.t.ppf((1 + confidence) / 2, freedom)) * total**0.5


def _defined(drawn: np.ndarray) -> np.ndarray | None:
    """Draws in which the score exists; None if most have nothing to find."""
    kept = drawn[~np.isnan(drawn)]
    return kept if len(kept) >= max(2, len(drawn) / 2) else None


def _ends(drawn: np.ndarray, confidence: float, images: int) -> tuple[float, float]:
    """Ends of the percentile interval, expanded for few images (Hesterberg, arXiv 1411.5279).

    Plain percentiles are too narrow by about what the t distribution is wider than the normal
    one, and by the square root of n / (n - 1).
    """
    n = max(images, 2)
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * (n / (n - 1)) ** 0.5
    tail = float(stats.norm.cdf(-reach))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
