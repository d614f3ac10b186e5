from __future__ import annotations

import pytest
import torch
from torch import nn

from condinst.analysis import analyze


class Small(nn.Module):
    """Two convolutions by hand: 3 -> 4 of 3x3 twice over, 4 -> 2 of 1x1."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(4, 2, 1)
        self.unused = nn.Linear(5, 7)

    def forward(self, inputs: list[dict]) -> torch.Tensor:
        image = inputs[0]["image"].float()[None]
        features = self.body(image)
        return self.head(features) + self.head(features)


def test_counts_agree_with_those_by_hand() -> None:
    model = Small().train()
    analysis = analyze(model, 10, 8, repeats=2)
    by_name = {module.name: module for module in analysis.modules}
    pixels = 10 * 8
    assert by_name["body"].parameters == 3 * 4 * 9 + 4
    assert by_name["unused"].parameters == 5 * 7 + 7
    assert by_name["body"].flops == pixels * 3 * 4 * 9
    assert by_name["head"].flops == 2 * pixels * 4 * 2
    assert analysis.whole.flops == pixels * (3 * 4 * 9 + 2 * 4 * 2)
    assert by_name["body"].activations == pixels * 4
    assert analysis.whole.parameters == sum(p.numel() for p in model.parameters())


def test_times_and_calls_are_measured_where_a_module_runs() -> None:
    analysis = analyze(Small(), 10, 8, repeats=2)
    by_name = {module.name: module for module in analysis.modules}
    assert by_name["head"].calls == 2
    assert by_name["unused"].milliseconds is None
    whole, body = analysis.whole.milliseconds, by_name["body"].milliseconds
    assert whole is not None
    assert body is not None
    assert whole > body > 0
    assert analysis.whole.name == ""


def test_depth_cuts_the_tree_and_the_mode_is_restored() -> None:
    model = Small().train()
    names = [module.name for module in analyze(model, 4, 4, depth=1, repeats=1).modules]
    assert names == ["", "body", "head", "unused"]
    assert model.training
    assert model.body.training
    assert not model.head._forward_hooks


@pytest.mark.parametrize(("height", "width", "repeats"), [(0, 4, 1), (4, -1, 1), (4, 4, 0)])
def test_numbers_that_are_not_positive_are_refused(height: int, width: int, repeats: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        analyze(Small(), height, width, repeats=repeats)
