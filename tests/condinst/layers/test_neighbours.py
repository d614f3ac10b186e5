import torch

from condinst.layers.neighbours import neighbour_offsets, neighbours


def test_the_pattern_lacks_its_middle() -> None:
    assert neighbour_offsets(3, 2) == [
        *((-2, -2), (-2, 0), (-2, 2)),
        *((0, -2), (0, 2)),
        *((2, -2), (2, 0), (2, 2)),
    ]
    assert len(neighbour_offsets(5, 1)) == 24


def test_neighbours_lie_at_their_offset_and_are_zero_beyond() -> None:
    x = torch.arange(1, 7, dtype=torch.float32).view(1, 2, 3)
    found = neighbours(x, [(0, 1), (-1, -1), (1, 0)])
    assert found[0].tolist() == [
        [[2, 3, 0], [5, 6, 0]],
        [[0, 0, 0], [0, 1, 2]],
        [[4, 5, 6], [0, 0, 0]],
    ]


def test_a_pattern_larger_than_the_map() -> None:
    assert neighbours(torch.ones(1, 2), neighbour_offsets(3, 4)).sum() == 0
