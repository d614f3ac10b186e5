"""Many comparisons at once: intervals that hold together, and discoveries among many.

Several variants against one baseline: all intervals are taken at one level, higher than the asked
one, at which they hold together with the asked confidence. The level follows from how the
differences vary together over the same draws (Hothorn, Bretz and Westfall, Biometrical Journal
2008; Beran, JASA 1988, on equal levels). A difference is told where its interval leaves zero out,
so that interval and verdict cannot disagree; Holm's steps would tell a little more, but belong to
no interval.

With several seeds the luck of training is estimated from all variants together, as in Dunnett's
test (JASA 1955): alone, each would have two degrees of freedom at three seeds, and the smallest of
many such guesses is far too low.

Everything else that is looked at is exploratory, with the share of false discoveries among what is
kept held down (Benjamini and Hochberg, JRSS B 1995).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from condinst.evaluation.differences import Pair
from condinst.evaluation.distributions import normal_share

_TRIES = 100_000  # of the largest of correlated normal variables; their level is known to 0.0002
_SHARED = 0.5  # correlation by the baseline's luck of training, as in Dunnett's test


def joint_level(pairs: Sequence[Pair], confidence: float = 0.95) -> float:
    """The level of each interval at which all of them hold together.

    Args:
        pairs: Differences from one baseline, or of several studies, on the same draws. Those
            without any variance cannot err and do not count.
        confidence: With which all are to hold, between 0 and 1.

    Returns:
        `confidence` for one pair or none.
    """
    covariance = _covariance(pairs)
    kept = np.flatnonzero(np.diag(covariance) > 0)
    if len(kept) < 2:
        return confidence
    covariance = covariance[np.ix_(kept, kept)]
    spread = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    root = vectors * np.sqrt(values.clip(0))  # (m, m)
    tries = np.random.default_rng(0).standard_normal((_TRIES, len(kept))) @ root.T
    critical = float(np.quantile(np.abs(tries).max(axis=1), confidence))
    return max(confidence, 2 * normal_share(critical) - 1)


def pool_seeds(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of a study's variants in one score, with one variance for the luck of training.

    Scores of variants and seeds are taken as a sum of both and of luck of one spread: a seed shifts
    every variant alike, as it sets the order of the images for all. The spread is the mean square
    of what is left (two-way analysis of variance), with V (S - 1) degrees of freedom for V variants
    beside the baseline and S seeds.

    Args:
        pairs: Of one baseline in one score; those with other seeds than most stay as they are.
    """
    seeds = [len(pair.each) for pair in pairs]
    usual = max(seeds, key=seeds.count, default=0)
    if usual < 2:
        return list(pairs)
    scores = np.stack([np.zeros(usual), *(pair.each for pair in pairs if len(pair.each) == usual)])
    left = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    freedom = (len(scores) - 1) * (usual - 1)
    variance = 2 * float((left**2).sum()) / freedom / usual  # of a difference of two means
    return [
        dataclasses.replace(pair, pooled=(variance, freedom)) if len(pair.each) == usual else pair
        for pair in pairs
    ]


def discoveries(p_values: Sequence[float], rate: float = 0.05) -> np.ndarray:
    """(N,) bool: which are kept so that at most a share of `rate` is expected to be false."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    below = p[order] <= rate * np.arange(1, len(p) + 1) / max(len(p), 1)
    kept = np.zeros(len(p), dtype=bool)
    if below.any():
        kept[order[: np.flatnonzero(below)[-1] + 1]] = True
    return kept


def _covariance(pairs: Sequence[Pair]) -> np.ndarray:
    """(m, m), of images from the draws, of seeds as if every training had the same spread."""
    if not pairs:
        return np.zeros((0, 0))
    drawn = np.stack([pair.drawn for pair in pairs])  # (m, B)
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    of_images = np.cov(drawn).reshape(len(pairs), len(pairs))
    seeds = np.sqrt([pair.seed_variance or 0.0 for pair in pairs])
    return of_images + np.outer(seeds, seeds) * np.where(np.eye(len(pairs)), 1, _SHARED)
