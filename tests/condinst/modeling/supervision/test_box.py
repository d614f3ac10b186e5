import math

import pytest
import torch

from condinst.errors import UserError
from condinst.modeling.supervision.box import (
    BoxRules,
    alike_pairs,
    box_masks,
    box_spans,
    count_pairs,
    likeness_of,
    pairwise_losses,
    projection_losses,
    shadow_losses,
)
from tests.condinst.modeling.supervision import slow_boxinst
from tests.condinst.modeling.supervision.slow_boxinst import Options
from tests.condinst.modeling.tiny import tiny_cfg

BOXES = torch.tensor(
    [
        [3.2, 4.9, 20.6, 17.0],
        [0.0, 0.0, 47.0, 31.0],  # the whole image; one pixel beyond it
        [10.0, 10.0, 10.5, 30.0],  # thin
        [40.3, 1.0, 46.9, 29.5],
    ]
)
CASES = {
    "paper": Options(),
    "stride 1": Options(stride=1),
    "stride 2, wide pattern": Options(stride=2, size=5, dilation=1, threshold=0.1, bottom=20),
    "stride 8": Options(stride=8, dilation=1),
    "beyond the map": Options(size=5, dilation=3),
    "everything alike": Options(threshold=0.0),
    "the very same colour": Options(threshold=1.0),
    "nothing removed": Options(bottom=0),
    "all removed": Options(bottom=10_000),
    "RGB": Options(channels="RGB", threshold=0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_the_definitions(name: str) -> None:
    options, size = CASES[name], (32, 64)
    s = options.stride
    images = [slow_boxinst.make_image(31, 47, 1), slow_boxinst.make_image(32, 60, 2)]
    heights = [62, 40]
    rules = BoxRules(
        options.bottom, options.size, options.dilation, options.threshold, 1, options.channels
    )
    alike = alike_pairs(images, heights, size, s, rules)
    spans = box_spans(BOXES, size, s)
    masks = box_masks(spans, (size[0] // s, size[1] // s))
    of_image = torch.tensor([0, 0, 1, 1])
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(4, size[0] // s, size[1] // s, generator=generator)
    projection = projection_losses(logits, masks)
    pairwise = pairwise_losses(logits, masks, alike[of_image], rules.offsets)
    pairs = count_pairs(spans, of_image, alike)
    assert (pairs.sum() > 0) == (name != "all removed")
    for k, image in enumerate(of_image.tolist()):
        wanted = slow_boxinst.losses(images[image], heights[image], BOXES[k], logits[k], options)
        found = projection[k].item(), pairwise[k].item(), pairs[k].item()
        assert found == pytest.approx(wanted, rel=2e-5, abs=1e-5)


def test_spans_by_hand() -> None:
    boxes = torch.tensor(
        [
            [1.0, 2.0, 5.9, 6.0],  # rows 2 to 6, columns 1 to 5
            [2.0, 2.0, 100.0, 2.0],
            [-3.0, -2.5, 1.0, 1.0],  # beyond the image
            [20.0, 0.0, 30.0, 5.0],
        ]
    )
    assert box_spans(boxes, (16, 16), 1).tolist() == [
        *([2, 7, 1, 6], [2, 3, 2, 16]),
        *([0, 2, 0, 2], [0, 6, 16, 16]),
    ]
    # Stride 4 takes pixels 2, 6, 10, 14.
    assert box_spans(boxes, (16, 16), 4).tolist() == [
        *([0, 2, 0, 1], [0, 1, 0, 4]),
        *([0, 0, 0, 0], [0, 1, 4, 4]),
    ]
    assert box_masks(box_spans(boxes, (16, 16), 4), (4, 4)).sum((1, 2)).tolist() == [2, 4, 0, 0]
    assert box_spans(boxes[:0], (16, 16), 4).shape == (0, 4)


def test_likeness_by_hand() -> None:
    lab = torch.tensor([[[50.0, 53.0, 50.0]], [[0.0, 4.0, 0.0]], [[0.0, 0.0, 0.0]]])  # 5 apart
    valid = torch.tensor([[0.0, 1.0, 1.0]])
    found = likeness_of(lab, valid, [(0, 1), (0, -1)])
    assert found[0, 0].tolist() == pytest.approx([math.exp(-2.5), math.exp(-2.5), 0])
    assert found[1, 0].tolist() == pytest.approx([0, 0, math.exp(-2.5)])


def test_a_flat_image_and_even_logits_by_hand() -> None:
    image = torch.full((3, 8, 8), 77, dtype=torch.uint8)
    rules = BoxRules(bottom_pixels=0, dilation=1)
    alike = alike_pairs([image], [8], (8, 8), 1, rules)
    # 8 neighbours inside, 5 at an edge, 3 in a corner.
    assert alike.sum().item() == 36 * 8 + 24 * 5 + 4 * 3
    spans = box_spans(torch.tensor([[2.0, 2.0, 3.0, 3.0]]), (8, 8), 1)
    masks = box_masks(spans, (8, 8))
    assert count_pairs(spans, torch.tensor([0]), alike).tolist() == [32]
    logits = torch.zeros(1, 8, 8)
    found = pairwise_losses(logits, masks, alike, rules.offsets)
    assert found.item() == pytest.approx(32 * math.log(2))
    # Maxima of one half everywhere: 1 - 2 * (2 * 0.5) / (8 * 0.25 + 2), twice.
    assert projection_losses(logits, masks).item() == pytest.approx(1.0, abs=1e-4)


def test_confident_logits_stay_finite() -> None:
    logits = torch.tensor([[[300.0, -300.0, 300.0]]], requires_grad=True)
    mask, alike = torch.ones(1, 1, 3).bool(), torch.ones(1, 1, 1, 3).bool()
    found = pairwise_losses(logits, mask, alike, [(0, 1)])
    found.sum().backward()
    assert found.item() == pytest.approx(2 * (300 - math.log(2)))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_no_instances() -> None:
    nothing = torch.zeros(0, 2, 3)
    assert projection_losses(nothing, nothing.bool()).shape == (0,)
    assert pairwise_losses(
        nothing, nothing.bool(), torch.zeros(0, 1, 2, 3).bool(), [(0, 1)]
    ).shape == (0,)
    alike = torch.ones(1, 1, 2, 3).bool()
    assert count_pairs(torch.zeros(0, 4).long(), torch.zeros(0).long(), alike).shape == (0,)


def test_both_channel_orders_give_the_same() -> None:
    image = slow_boxinst.make_image(24, 30, 5)
    bgr = alike_pairs([image], [24], (32, 32), 4, BoxRules(channels="BGR"))
    rgb = alike_pairs([image.flip(0)], [24], (32, 32), 4, BoxRules(channels="RGB"))
    assert torch.equal(bgr, rgb)
    assert 0 < bgr.sum() < bgr.numel()


def test_values_out_of_range_are_refused_together() -> None:
    wrong = ("MODEL.BOXINST.PAIRWISE.SIZE", 4, "MODEL.BOXINST.PAIRWISE.COLOR_THRESH", 1.5)
    with pytest.raises(UserError, match=r"(?s)SIZE = 4: expected odd.*COLOR_THRESH = 1.5.*0 to 1"):
        BoxRules.from_config(tiny_cfg("MODEL.BOXINST.ENABLED", True, *wrong))


def test_without_pairs_no_colour_is_compared() -> None:
    cfg = tiny_cfg("MODEL.BOXINST.ENABLED", True, "MODEL.BOXINST.PAIRWISE.ENABLED", False)
    cfg.INPUT.FORMAT = "L"  # of which no colour could be told
    rules = BoxRules.from_config(cfg)
    assert rules.offsets == []
    alike = alike_pairs([torch.zeros(1, 8, 12)], [8], (8, 16), 4, rules)
    assert alike.shape == (1, 0, 2, 4)
    logits = torch.zeros(2, 2, 4)
    assert pairwise_losses(logits, logits.bool(), alike[[0, 0]], []).tolist() == [0, 0]
    spans = torch.tensor([[0, 1, 0, 2]])
    assert count_pairs(spans, torch.tensor([0]), alike).tolist() == [0]


def test_shadows_are_those_of_the_masks() -> None:
    boxes = torch.cat((BOXES, torch.tensor([[50.0, 1.0, 60.0, 9.0]])))  # beyond the map
    spans = box_spans(boxes, (32, 48), 4)
    logits = torch.randn(5, 8, 12, generator=torch.Generator().manual_seed(0))
    wanted = projection_losses(logits, box_masks(spans, (8, 12)))
    probs = logits.sigmoid()
    found = shadow_losses(probs.max(1).values, probs.max(2).values, spans)
    torch.testing.assert_close(found, wanted)
