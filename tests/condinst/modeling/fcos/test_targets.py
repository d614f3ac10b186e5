import pytest
import torch

from condinst.config import get_cfg
from condinst.errors import UserError
from condinst.layers.locations import cell_locations
from condinst.modeling.fcos.targets import Matching, Targets, assign, level_first
from tests.condinst.modeling.fcos.readable_targets import assign_readably

MATCHING = Matching(strides=(8, 16), sizes=(32,), center_sample=True, radius=1.5)
BACKGROUND = 5


def locations(size: int = 64) -> list[torch.Tensor]:
    return [cell_locations(size // s, size // s, s) for s in MATCHING.strides]


def run(boxes: list[list[float]], classes: list[int], matching: Matching = MATCHING) -> Targets:
    tensor = torch.tensor(boxes).reshape(-1, 4)
    centers = (tensor[:, :2] + tensor[:, 2:]) / 2
    return assign(locations(), tensor, torch.tensor(classes).long(), centers, BACKGROUND, matching)


def test_a_small_box_by_hand() -> None:
    # Centre (20, 20), reach 12: strictly between 8 and 32 lie the columns and rows 12, 20, 28 of
    # stride 8.
    made = run([[6, 4, 34, 36]], [2])
    positive = (made.labels == 2).nonzero()[:, 0].tolist()
    assert positive == [row * 8 + column for row in (1, 2, 3) for column in (1, 2, 3)]
    # From (12, 12): 6, 8, 22, 24 pixels, in strides of 8.
    assert made.distances[9].tolist() == [0.75, 1.0, 2.75, 3.0]
    assert (made.labels[64:] == BACKGROUND).all()  # its largest distance is at most 32


def test_a_range_includes_both_ends() -> None:
    # From (12, 12) the box's right side is 32 away: in [-1, 32] of stride 8, not in the finer half
    # open one.
    made = run([[4, 4, 44, 20]], [1], Matching((8, 16), (32,), False, 1.5))
    fine = made.labels[:64].view(8, 8)
    assert (fine == 1).nonzero().tolist() == [[1, x] for x in range(1, 5)]
    # Stride 16 has locations 8 (36 from the right side) and 40 (36 from the left); 24 is 20 away
    # from both.
    coarse = made.labels[64:].view(4, 4)
    assert (coarse == 1).nonzero().tolist() == [[0, 0], [0, 2]]


def test_the_location_on_a_side_is_outside() -> None:
    made = run([[12, 12, 28, 28]], [0], Matching((8, 16), (32,), False, 1.5))
    assert (made.labels == 0).nonzero()[:, 0].tolist() == [2 * 8 + 2]  # only (20, 20)


def test_the_smaller_box_wins_and_of_equals_the_first() -> None:
    big, small = [4, 4, 36, 36], [10, 10, 30, 30]
    for boxes, classes in (([big, small], [1, 2]), ([small, big], [2, 1])):
        assert run(boxes, classes).labels[2 * 8 + 2] == 2
    made = run([small, small], [3, 4])
    assert made.labels[2 * 8 + 2] == 3
    assert made.boxes[2 * 8 + 2] == 0


def test_the_centre_may_lie_elsewhere_than_in_the_box() -> None:
    box = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    centre = torch.tensor([[4.0, 28.0]])  # centre of mass of an L
    made = assign(locations(), box, torch.tensor([1]), centre, BACKGROUND, MATCHING)
    cells = (made.labels[:64].view(8, 8) == 1).nonzero().tolist()
    # x strictly within (0, 16), y within (16, 32) after the cut to the box.
    assert cells == [[2, 0], [2, 1], [3, 0], [3, 1]]


def test_no_boxes_is_all_background() -> None:
    made = run([], [])
    assert (made.labels == BACKGROUND).all()
    assert made.distances.shape == (64 + 16, 4)


def test_a_flip_flips_the_targets() -> None:
    boxes = torch.tensor([[3.0, 5.0, 40.0, 30.0], [20.0, 18.0, 61.0, 60.0]])
    flipped = torch.stack((64 - boxes[:, 2], boxes[:, 1], 64 - boxes[:, 0], boxes[:, 3]), dim=1)
    classes = torch.tensor([0, 1])
    a, b = (
        assign(locations(), x, classes, (x[:, :2] + x[:, 2:]) / 2, BACKGROUND, MATCHING)
        for x in (boxes, flipped)
    )
    assert (a.labels < BACKGROUND).any()
    torch.testing.assert_close(a.labels[:64].view(8, 8).flip(1), b.labels[:64].view(8, 8))
    swapped = a.distances[:64].view(8, 8, 4).flip(1)[..., [2, 1, 0, 3]]
    positive = b.labels[:64].view(8, 8) < BACKGROUND
    torch.testing.assert_close(swapped[positive], b.distances[:64].view(8, 8, 4)[positive])


def test_level_first_orders_as_flattened_predictions() -> None:
    first, second = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    assert level_first([first, second], [2, 1]).tolist() == [1, 2, 4, 5, 3, 6]


def test_levels_strides_and_sizes_must_agree() -> None:
    cfg = get_cfg()
    cfg.MODEL.FCOS.SIZES_OF_INTEREST = [64, 128]
    with pytest.raises(UserError, match="SIZES_OF_INTEREST"):
        Matching.from_config(cfg)


@pytest.mark.parametrize("center_sample", [True, False])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_columns_and_rows_apart_find_what_the_readable_rules_find(
    count: int, center_sample: bool
) -> None:
    generator = torch.Generator().manual_seed(count)
    matching = Matching((8, 16, 32), (32, 64), center_sample, 1.5)
    grids = [cell_locations(72 // s + 1, 120 // s + 1, s) for s in matching.strides]
    for case in range(6):
        # Whole numbers, so that sides, limits and areas often coincide.
        corner = torch.randint(0, 100, (count, 2), generator=generator).float()
        size = torch.randint(0, 70, (count, 2), generator=generator).float()
        boxes = torch.cat((corner, corner + size * (case > 0)), dim=1)
        centers = corner + size * torch.rand(count, 2, generator=generator)
        classes = torch.randint(0, BACKGROUND, (count,), generator=generator)
        given = (grids, boxes, classes, centers, BACKGROUND, matching)
        for a, b in zip(assign(*given), assign_readably(*given), strict=True):
            assert torch.equal(a, b)
    assert (assign(*given).labels < BACKGROUND).any()
