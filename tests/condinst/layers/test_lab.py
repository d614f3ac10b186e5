import pytest
import torch

from condinst.layers.lab import rgb_to_lab
from tests.condinst.modeling.supervision.slow_boxinst import lab

# What scikit-image 0.26's rgb2lab gives for 8-bit colours.
LAB = {
    (255, 255, 255): (100.0, -0.002455, 0.004653),
    (255, 0, 0): (53.240588, 80.092308, 67.202751),
    (0, 255, 0): (87.735099, -86.18303, 83.179703),
    (0, 0, 255): (32.295673, 79.185591, -107.8573),
    (10, 10, 10): (2.741735, -0.000174, 0.00033),  # on the straight parts of both curves
    (1, 2, 3): (0.509825, -0.12249, -0.470496),
    (200, 100, 50): (53.629508, 36.305164, 45.380472),
    (128, 128, 128): (53.585013, -0.001473, 0.002791),
    (3, 250, 120): (86.870287, -76.328543, 48.323886),
}


@pytest.mark.parametrize("rgb", LAB)
def test_lab_is_scikit_images(rgb: tuple[int, int, int]) -> None:
    pixel = torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1)
    lab = rgb_to_lab(pixel)
    assert lab.dtype == torch.float32
    assert lab.flatten().tolist() == pytest.approx(LAB[rgb], abs=1e-4)


def test_black_is_what_lies_beyond_the_image() -> None:
    assert rgb_to_lab(torch.zeros(3, 1, 1)).abs().max() < 1e-5


def test_leading_dimensions_stay() -> None:
    one = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    assert torch.equal(rgb_to_lab(one)[1], rgb_to_lab(one[1]))
    assert rgb_to_lab(one[:0]).shape == (0, 3, 4, 5)


def test_all_kinds_of_colours_are_the_definitions() -> None:
    steps = range(0, 256, 15)
    colours = [(r, g, b) for r in steps for g in steps for b in steps]
    found = rgb_to_lab(torch.tensor(colours).T[:, :, None])[:, :, 0].T
    wanted = torch.tensor([lab(colour) for colour in colours])
    assert (found - wanted).abs().max() < 1e-4
