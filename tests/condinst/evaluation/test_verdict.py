from __future__ import annotations

import dataclasses

import pytest

from condinst.evaluation.verdict import Evidence, judge

ONE = Evidence(2.0, 0.5, 3.5, 0.75**2, None, 100)
SEVERAL = dataclasses.replace(ONE, seed_variance=0.04, seeds=3)


def test_one_training_each_is_never_plainly_better() -> None:
    assert judge(ONE).phrase == "better on these images, one training each"
    assert judge(SEVERAL).phrase == judge(SEVERAL).word == "better"
    back = judge(dataclasses.replace(ONE, difference=-2.0, low=-3.5, high=-0.5))
    assert (back.word, back.phrase) == ("worse", "worse on these images, one training each")


def test_the_same_for_practice_is_an_interval_within_the_margin() -> None:
    close = Evidence(0.1, -0.2, 0.3, 0.01, 0.001, 100, seeds=3)
    assert judge(close, margin=0.3).phrase == "the same for practice"
    assert judge(close, margin=0.29).word == "not told apart"
    told = dataclasses.replace(close, low=0.05)  # told from zero, but it makes no difference
    assert judge(told, margin=0.3).word == "the same for practice"
    assert judge(told, margin=0.29).word == "better"
    nothing = Evidence(0.0, 0.0, 0.0, 0.0, None, 100)
    assert judge(nothing).phrase == "the same for practice on these images, one training each"


def test_images_that_would_tell_the_margin() -> None:
    """(1.96 + 0.84)^2 x 1.02^2 / 0.5^2 x 100 images = 3266, of two digits."""
    unsure = judge(Evidence(1.0, -1.0, 3.0, 1.02**2, None, 100), margin=0.5)
    assert unsure.word == "not told apart"
    assert unsure.smallest == pytest.approx(2.80 * 1.02, abs=0.01)
    assert unsure.images_needed == 3300
    assert unsure.seeds_needed is None
    assert "3,300 images" in unsure.sentence
    assert "a difference of 2.9 would have been told" in unsure.sentence
    far = judge(Evidence(1.0, -1.0, 3.0, 1.02**2, None, 100), margin=0.01)
    assert far.images_needed is None
    assert "could not be told on 1000 times as many images" in far.sentence


def test_seeds_or_images_that_would_tell_the_margin() -> None:
    """2.80 x SE = 0.5 is a variance of 0.0319: 0.04 of 4 seeds over what 0.01 of images leave."""
    found = Evidence(0.2, -0.4, 0.8, 0.01, 0.04, 200, seeds=4)
    verdict = judge(found, margin=0.5)
    assert verdict.seeds_needed == 8  # 4 x 0.04 / 0.0219 = 7.3
    assert verdict.images_needed is None  # the seeds' variance alone is too much
    both = judge(dataclasses.replace(found, image_variance=0.04), margin=0.5)
    assert (both.images_needed, both.seeds_needed) == (None, None)
    assert "both more images and more seeds" in both.sentence


def test_a_corrected_interval_asks_for_more() -> None:
    alone = judge(Evidence(1.0, -1.0, 3.0, 1.0, None, 100))
    among = judge(Evidence(1.0, -1.4, 3.4, 1.0, None, 100, level=0.99))
    assert among.smallest == pytest.approx(2.58 + 0.84, abs=0.01)
    assert among.smallest > alone.smallest
    assert "95% simultaneous interval" in among.sentence
    assert "95% interval" in alone.sentence
