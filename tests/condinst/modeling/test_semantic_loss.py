import math

import pytest
import torch
from torch import nn

from condinst.modeling.ground_truth import read_ground_truth
from condinst.modeling.semantic_loss import SemanticHead, semantic_labels
from tests.condinst.modeling.tiny import rectangles

SIZE = (16, 32)


def truth(boxes: list[tuple[int, int, int, int]]):  # noqa: ANN201
    return read_ground_truth(rectangles(*SIZE, boxes), SIZE, (8,), mass_center=False)


def test_the_smallest_instance_labels_a_pixel() -> None:
    labels = semantic_labels(truth([(0, 0, 32, 16), (8, 0, 16, 8)]), 8, num_classes=3)
    assert labels.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_pixels_of_no_instance_are_background() -> None:
    assert semantic_labels(truth([(8, 0, 16, 8)]), 8, 3).tolist() == [[3, 0, 3, 3], [3, 3, 3, 3]]
    assert (semantic_labels(truth([]), 8, 3) == 3).all()


def test_the_loss_by_hand() -> None:
    head = SemanticHead(
        in_channels=4, channels=8, num_classes=3, norm="BN", alpha=0.25, gamma=2.0, prior_prob=0.01
    )
    for p in head.logits.parameters():
        nn.init.zeros_(p)
    x = torch.randn(1, 4, 2, 4)
    # Two positive pixels; 24 terms of (1/2)^2 log 2, 2 weighted 1/4 and 22 weighted 3/4.
    loss = head.loss(x, [truth([(8, 0, 24, 8)])], 8)
    assert loss.item() == pytest.approx(0.25 * math.log(2) * (2 * 0.25 + 22 * 0.75) / 2)
    loss = head.loss(x, [truth([])], 8)
    assert loss.item() == pytest.approx(0.25 * math.log(2) * 24 * 0.75)
