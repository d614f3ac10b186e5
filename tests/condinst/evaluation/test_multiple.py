from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from condinst.evaluation.differences import Pair, difference, paired_bootstrap
from condinst.evaluation.multiple import discoveries, joint_level, pool_seeds
from tests.condinst.evaluation.simulation import Population, simulate


def pair(drawn: np.ndarray, each: tuple[float, ...] = (0.0,)) -> Pair:
    return Pair("all", "AP", 0.0, 0.0, np.array(each), drawn, 100)


def test_one_comparison_needs_no_correction() -> None:
    rng = np.random.default_rng(0)
    one = pair(rng.normal(size=500))
    assert joint_level([]) == joint_level([one]) == 0.95
    assert joint_level([one, pair(np.zeros(500))]) == 0.95  # a twin of the baseline cannot err
    assert joint_level([one, one]) == pytest.approx(0.95, abs=0.001)  # one error alone


def test_independent_comparisons_are_corrected_as_sidak_says() -> None:
    rng = np.random.default_rng(0)
    several = [pair(one) for one in rng.normal(size=(8, 20_000))]
    assert joint_level(several) == pytest.approx(0.95 ** (1 / 8), abs=0.0008)
    assert joint_level(several, 0.8) == pytest.approx(0.8 ** (1 / 8), abs=0.002)


def test_a_shared_baseline_is_dunnetts_test() -> None:
    """Dunnett's two-sided critical value for four groups against a control, many degrees: 2.44."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(5, 40_000))
    level = joint_level([pair(one - drawn[0]) for one in drawn[1:]])
    assert NormalDist().inv_cdf((1 + level) / 2) == pytest.approx(2.44, abs=0.02)
    seeds = [pair(np.zeros(10), (k, k + 1.0, k + 2.0)) for k in range(4)]
    assert NormalDist().inv_cdf((1 + joint_level(seeds)) / 2) == pytest.approx(2.44, abs=0.02)


def test_the_luck_of_training_is_pooled_by_hand() -> None:
    """Residuals of the rows 0 0, 0 2, 1 1: +-1/3, +-2/3, +-1/3, a mean square of 2/3 by two."""
    drawn = np.zeros(5)
    found = pool_seeds([pair(drawn, (0.0, 2.0)), pair(drawn, (1.0, 1.0))])
    assert [one.seed_variance for one in found] == pytest.approx([2 / 3, 2 / 3])
    assert [one.seed_freedom for one in found] == [2, 2]
    (alone,) = pool_seeds([pair(drawn, (0.0, 2.0))])
    assert alone.seed_variance == pytest.approx(pair(drawn, (0.0, 2.0)).seed_variance) == 1.0
    assert alone.seed_freedom == 1


def test_what_cannot_be_pooled_stays() -> None:
    one = pair(np.zeros(5))
    assert pool_seeds([]) == []
    assert pool_seeds([one]) == [one]
    found = pool_seeds([pair(np.zeros(5), (0.0, 2.0)), one, pair(np.zeros(5), (0.0, 4.0))])
    assert found[1] is one
    assert found[0].seed_variance == found[2].seed_variance


def test_undefined_draws_are_left_out() -> None:
    rng = np.random.default_rng(2)
    holes = rng.normal(size=500)
    holes[::7] = np.nan
    assert 0.95 < joint_level([pair(holes), pair(rng.normal(size=500))]) < 0.98


def test_false_discoveries_by_hand() -> None:
    """Five p-values against 0.01, 0.02, 0.03, 0.04, 0.05: the third is saved by the fourth."""
    kept = discoveries([0.5, 0.001, 0.039, 0.031, 0.012], 0.05)
    assert kept.tolist() == [False, True, True, True, True]
    assert discoveries([0.02, 0.5, 0.9]).tolist() == [False] * 3
    assert discoveries([]).shape == (0,)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_higher_level_widens_the_interval(seeds: int) -> None:
    runs = simulate(Population(), 60, (0.0, 0.1, 0.0, 0.1), seed=0)
    base, other = runs[:seeds], runs[2 : 2 + seeds]
    plain = paired_bootstrap(base, other, draws=100)[0]
    rng = np.random.default_rng(0)
    one = pair(rng.normal(0.4, 1, 400), (0.4, 0.6)[:seeds])
    narrow, wide = difference(one), difference(one, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.p_value == narrow.p_value
    assert narrow.low < narrow.difference < narrow.high
    assert plain.low < plain.high
