"""Learning masks from boxes is the definition, from the images to every parameter's gradient."""

from __future__ import annotations

import pytest

from tests.condinst.modeling.slow_detector import CASES, differences

QUICK = ("RGB", "warm-up of 4, third pass")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_losses_and_gradients_are_the_definitions(name: str) -> None:
    loss, gradient = differences(CASES[name])
    assert loss < 1e-9
    assert gradient < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["the paper's", "BiFPN, deformable, stride 2"])
def test_so_are_the_compiled_loops(name: str) -> None:
    loss, gradient = differences(CASES[name], "numba")
    assert loss < 1e-6
    assert gradient < 1e-6
