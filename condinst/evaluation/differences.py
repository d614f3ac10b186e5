"""The difference of two results on the same data: paired bootstrap over images, and seeds.

Both see the same draws of the images. Where results of several seeds are given, the variance
between the seeds is added; else the interval covers other images, but no other trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from condinst.errors import UserError
from condinst.evaluation.bootstrap import Samples, defined, ends, image_draws, sample, with_seeds
from condinst.evaluation.distributions import t_quantile, t_tail
from condinst.evaluation.matching import Matches
from condinst.evaluation.scores import NUMBERS
from condinst.evaluation.verdict import MARGIN, Evidence, Verdict, judge


@dataclass(frozen=True)
class Pair:
    """One score of two results on the same data and draws, in percent.

    Attributes:
        category: Name of the category, or `all`.
        metric: Of `NUMBERS`.
        a: The baseline's score, mean over its seeds.
        b: The other's.
        each: (S,) differences b - a, one a seed.
        drawn: (B,) differences on the draws, mean over the seeds; NaN where undefined.
        images: Number of images.
        pooled: Variance of the mean difference from the luck of training and its degrees of
            freedom, where they come from several variants (`multiple.pool_seeds`).
    """

    category: str
    metric: str
    a: float
    b: float
    each: np.ndarray
    drawn: np.ndarray
    images: int
    pooled: tuple[float, int] | None = None

    @property
    def image_variance(self) -> float:
        """Of the mean difference, from the choice of images."""
        return float(np.nanvar(self.drawn, ddof=1))

    @property
    def seed_variance(self) -> float | None:
        """Of the mean difference, from the luck of training; None with one seed."""
        if self.pooled is not None:
            return self.pooled[0]
        return float(self.each.var(ddof=1)) / len(self.each) if len(self.each) > 1 else None

    @property
    def seed_freedom(self) -> int:
        """Degrees of freedom of `seed_variance`."""
        return len(self.each) - 1 if self.pooled is None else self.pooled[1]


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
        p_value: Of no difference, two-sided, as if it were the only comparison.
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
    p_value: float
    verdict: Verdict


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
    return tuple(difference(pair, confidence) for pair in pair_samples(a, b))


def pair_samples(a: Sequence[Samples], b: Sequence[Samples]) -> tuple[Pair, ...]:
    """All scores that both results have; arguments as of `differences`."""
    if len(a) != len(b):
        raise UserError(f"{len(a)} seeds cannot be paired with {len(b)}: use the same for both")
    found = []
    for category in a[0].estimate:
        for column, metric in enumerate(NUMBERS):
            one = _pair(a, b, category, metric, column)
            if one is not None:
                found.append(one)
    return tuple(found)


def difference(
    pair: Pair, confidence: float = 0.95, level: float | None = None, margin: float = MARGIN
) -> Difference:
    """The difference of a pair, its interval and verdict.

    Args:
        pair: Of two results.
        confidence: With which all intervals of the study hold together.
        level: At which this one is taken so that they do (`multiple.joint_level`); `confidence` if
            it is the only one.
        margin: Points that make no difference in practice.
    """
    level = confidence if level is None else level
    estimate = float(pair.each.mean())
    if pair.seed_variance is None:
        kept = pair.drawn[~np.isnan(pair.drawn)]
        low, high = ends(kept, confidence, pair.images, level)
        std_error, freedom = pair.image_variance**0.5, float(max(pair.images - 1, 1))
    else:
        std_error, freedom = with_seeds(
            pair.image_variance, pair.images, pair.seed_variance, pair.seed_freedom
        )
        reach = t_quantile((1 + level) / 2, freedom) * std_error
        low, high = estimate - reach, estimate + reach
    found = Evidence(
        estimate, low, high, pair.image_variance, pair.seed_variance, pair.images, len(pair.each),
        confidence, level,
    )  # fmt: skip
    seed_std = float(pair.each.std(ddof=1)) if len(pair.each) > 1 else None
    return Difference(
        pair.category, pair.metric, pair.a, pair.b, estimate, low, high, std_error, len(pair.each),
        seed_std, _p_value(estimate, std_error, freedom), judge(found, margin),
    )  # fmt: skip


def _pair(
    a: Sequence[Samples], b: Sequence[Samples], category: str, metric: str, column: int
) -> Pair | None:
    before = [samples.estimate[category][metric] for samples in a]
    after = [samples.estimate[category][metric] for samples in b]
    both = [(x, y) for x, y in zip(before, after, strict=True) if x is not None and y is not None]
    drawn = np.mean(
        [
            y.draws[category][:, column] - x.draws[category][:, column]
            for x, y in zip(a, b, strict=True)
        ],
        axis=0,
    )
    if not both or defined(drawn) is None:
        return None
    means = np.array(both).mean(axis=0)
    each = np.array([y - x for x, y in both])
    return Pair(category, metric, float(means[0]), float(means[1]), each, drawn, a[0].images)


def _p_value(estimate: float, std_error: float, freedom: float) -> float:
    if std_error == 0:
        return 1.0 if estimate == 0 else 0.0
    return 2 * t_tail(abs(estimate) / std_error, freedom)
