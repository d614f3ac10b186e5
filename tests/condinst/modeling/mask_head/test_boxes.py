"""Fast ways to BoxInst's losses give the reference's numbers and gradients."""

from __future__ import annotations

import pytest
import torch

from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.numba_backend import NumbaBackend
from condinst.modeling.mask_head.reference import ReferenceBackend
from tests.condinst.modeling.mask_head.box_cases import CASES, losses_and_gradients, make

# The loops are compiled twice, for both precisions: half a minute where nothing is kept of that.
pytestmark = pytest.mark.slow


@pytest.fixture
def fast() -> MaskBackend:
    return NumbaBackend()


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.7, 0.02)])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(fast: MaskBackend, name: str, weights: tuple[float, float]) -> None:
    case, kind = CASES[name], torch.float64
    wanted = losses_and_gradients(ReferenceBackend(), case, kind, weights)
    found = losses_and_gradients(fast, case, kind, weights)
    for a, b in zip(found, wanted, strict=True):
        largest = float(b.abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * max(largest, 1.0))


def test_single_precision(fast: MaskBackend) -> None:
    case = CASES["paper"]
    wanted = losses_and_gradients(ReferenceBackend(), case, torch.float64, (0.7, 0.02))
    found = losses_and_gradients(fast, case, torch.float32, (0.7, 0.02))
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 1e-4


def test_without_gradients(fast: MaskBackend) -> None:
    spec, features, query, truth = make(CASES["paper"], torch.float64)
    wanted = ReferenceBackend().box_losses(spec, features, query, truth)
    torch.testing.assert_close(fast.box_losses(spec, features, query, truth), wanted)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing_but_rounding(fast: MaskBackend, threads: int) -> None:
    before = torch.get_num_threads()
    wanted = losses_and_gradients(fast, CASES["paper"], torch.float64, (1.0, 1.0))
    torch.set_num_threads(threads)
    try:
        found = losses_and_gradients(fast, CASES["paper"], torch.float64, (1.0, 1.0))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
