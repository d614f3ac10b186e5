from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from condinst.errors import UserError
from condinst.evaluation.accumulating import accumulate, group_events
from condinst.evaluation.bootstrap import (
    EVERY,
    Samples,
    confidence_intervals,
    image_draws,
    mean_interval,
    sample,
)
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.differences import paired_bootstrap
from condinst.evaluation.matching import match_detections
from condinst.evaluation.scores import NUMBERS, summarise
from tests.condinst.evaluation.simulation import Population, simulate


def test_draws_keep_multiplicities_and_repeat() -> None:
    draws = image_draws(50, 200, 3)
    assert (draws.sum(axis=1) == 50).all()
    assert draws.max() > 2
    assert np.mean(draws == 0) == pytest.approx(0.364, abs=0.01)  # (1 - 1/50)^50
    np.testing.assert_array_equal(draws, image_draws(50, 200, 3))
    assert (draws != image_draws(50, 200, 4)).any()
    with pytest.raises(UserError, match="needs 1 and 2 at least"):
        image_draws(0, 10, 0)


def made(*estimates: float | None, spread: float = 1.0) -> list[Samples]:
    """Results over 100 images, one a seed, whose draws are the estimate and `spread` about it."""
    column = np.array([-1.0, 0.0, 1.0])[:, None] * spread
    return [
        Samples(
            {EVERY: dict.fromkeys(NUMBERS, one)},
            {EVERY: np.repeat(column + (np.nan if one is None else one), 12, axis=1)},
            100,
        )
        for one in estimates
    ]


def test_the_interval_of_a_mean_holds_images_and_seeds() -> None:
    from scipy import stats

    assert mean_interval(made(30.0), "AP") == confidence_intervals(made(30.0)[0])["AP"]
    two = mean_interval(made(30.0, 34.0), "AP")
    assert two is not None
    # Images: variance 1 of the mean of both. Seeds: variance 8 over 2 of them. Five in all, with
    # 25 / (16 / 1 + 1 / 99) = 1.561 degrees of freedom.
    assert (two.estimate, two.std_error) == pytest.approx((32.0, 5**0.5))
    reach = stats.t.ppf(0.975, 25 / (16 + 1 / 99)) * 5**0.5
    assert (two.low, two.high) == pytest.approx((32.0 - reach, 32.0 + reach))
    wide = mean_interval(made(2.0, 98.0), "AP")
    assert wide is not None
    assert (wide.low, wide.high) == (0, 100)
    assert mean_interval(made(None, None), "AP") is None


@pytest.mark.slow
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_estimate_is_pycocotools_to_the_last_digit(
    make_case: Callable[..., Any], task: str
) -> None:
    truth, detections = make_case(8)
    expected = evaluate_coco(truth, detections, backend="pycocotools")
    matches = match_detections(truth, detections, task=task)
    samples = sample(matches, image_draws(12, 20, 0))
    assert samples.estimate[EVERY] == expected.metrics[task]
    for name, numbers in expected.per_class[task].items():
        assert samples.estimate[name] == numbers


def test_a_result_does_not_differ_from_itself(make_case: Callable[..., Any]) -> None:
    matches = match_detections(*make_case(9))
    found = paired_bootstrap(matches, matches, draws=30)
    assert {one.metric for one in found if one.category == EVERY} <= set(NUMBERS)
    for one in found:
        assert one.difference == one.low == one.high == 0
        assert one.verdict.word == "the same for practice"
        assert one.p_value == 1


def test_better_worse_and_the_same_draws() -> None:
    base, better = simulate(Population(), 200, (0.0, 1.0), seed=0)
    found = {(one.category, one.metric): one for one in paired_bootstrap(base, better, draws=100)}
    back = {(one.category, one.metric): one for one in paired_bootstrap(better, base, draws=100)}
    assert len(found) == 4 * 12  # all and three classes
    ap = found[EVERY, "AP"]
    assert ap.verdict.word == "better"
    assert ap.b - ap.a == pytest.approx(ap.difference)
    assert ap.low < ap.difference < ap.high
    assert ap.seed_std is None
    assert ap.verdict.phrase == "better on these images, one training each"
    assert ap.p_value < 1e-6
    opposite = back[EVERY, "AP"]
    assert opposite.verdict.word == "worse"
    assert (-opposite.high, -opposite.low) == pytest.approx((ap.low, ap.high))
    assert found["class1", "APs"].verdict.word in ("better", "not told apart")


def test_pairing_makes_intervals_narrower() -> None:
    a, b = simulate(Population(), 150, (0.0, 0.1), seed=1)
    draws = image_draws(150, 200, 0)
    paired = next(one for one in paired_bootstrap(a, b, draws=200) if one.metric == "AP")
    alone = [confidence_intervals(sample(matches, draws))["AP"] for matches in (a, b)]
    apart = np.hypot(*[one.std_error for one in alone if one is not None])
    assert paired.std_error < 0.7 * apart


def test_seeds_widen_the_interval_and_are_said() -> None:
    runs = simulate(Population(), 150, (0.0, 0.0, 0.0, 0.25, 0.05, 0.45), seed=2)
    one = paired_bootstrap(runs[0], runs[3], draws=100)[0]
    several = paired_bootstrap(runs[:3], runs[3:], draws=100)[0]
    assert several.seeds == 3
    assert several.seed_std is not None
    assert several.seed_std > 0
    assert several.std_error > several.seed_std / 3**0.5
    assert "one training" not in several.verdict.sentence
    assert one.seeds == 1
    with pytest.raises(UserError, match="2 seeds cannot be paired with 1"):
        paired_bootstrap(runs[:2], runs[3], draws=10)


def test_other_data_is_refused(make_case: Callable[..., Any]) -> None:
    truth, detections = make_case(0)
    matches = match_detections(truth, detections)
    with pytest.raises(UserError, match="different data"):
        paired_bootstrap(matches, match_detections(*make_case(1)), draws=10)
    with pytest.raises(UserError, match="cannot be compared"):
        paired_bootstrap(matches, match_detections(truth, detections, task="bbox"), draws=10)


def test_intervals_of_one_result() -> None:
    (matches,) = simulate(Population(), 150, (0.0,), seed=3)
    wide = confidence_intervals(sample(matches, image_draws(150, 300, 0)))
    narrow = confidence_intervals(sample(matches, image_draws(150, 300, 0)), confidence=0.5)
    for name in NUMBERS:
        one, other = wide[name], narrow[name]
        assert one is not None
        assert other is not None
        assert one.low < other.low < other.high < one.high
        assert one.high - one.low == pytest.approx(2 * 1.96 * one.std_error, rel=0.2)


def test_nothing_to_find_has_no_interval(make_case: Callable[..., Any]) -> None:
    truth, _ = make_case(0)
    nothing = match_detections({**truth, "annotations": []}, [])
    assert set(confidence_intervals(sample(nothing, image_draws(12, 5, 0))).values()) == {None}
    assert paired_bootstrap(nothing, nothing, draws=5) == ()


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """Over simulated datasets the 95% interval holds the true difference in 93 to 97 of 100.

    The truth is the difference on 50,000 images of the same population.
    """
    population, skills, images = Population(), (0.0, 0.15), 80
    whole = simulate(population, 50_000, skills, seed=10_000)
    true = [summarise(accumulate(group_events(m), np.ones(50_000))) for m in whole]
    covered = []
    for dataset in range(250):
        found = paired_bootstrap(
            *simulate(population, images, skills, seed=dataset), draws=200, seed=dataset
        )[: len(NUMBERS)]
        assert all(one.category == EVERY for one in found)
        truth = [(true[1][one.metric] or 0) - (true[0][one.metric] or 0) for one in found]
        covered.append([one.low <= t <= one.high for one, t in zip(found, truth, strict=True)])
    assert 0.93 <= np.mean(covered, axis=0)[0] <= 0.97  # AP
    assert 0.93 <= np.mean(covered) <= 0.97  # all twelve
