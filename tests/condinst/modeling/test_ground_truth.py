import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from condinst.errors import UserError
from condinst.modeling.ground_truth import read_ground_truth, sample_masks
from tests.condinst.modeling.tiny import rectangles

SIZE = (32, 64)  # of the padded image


def test_masks_are_sampled_from_half_a_stride_on() -> None:
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 4, 12] = mask[0, 5, 5] = True
    made = sample_masks(BitMasks(mask), SIZE, (1, 8), "cpu")
    assert made.masks[8].nonzero().tolist() == [[0, 0, 1]]
    assert made.masks[8].shape == (1, 4, 8)
    assert made.masks[1].sum() == 2
    assert made.areas.tolist() == [2]
    assert made.centers.tolist() == [[8.5, 4.5]]


def test_polygons_equal_their_full_size_masks() -> None:
    polygons = [
        [np.array([3.2, 4.1, 25.7, 6.0, 20.3, 22.9, 5.5, 18.0])],
        [np.array([30.0, 2, 40, 2, 40, 12, 30, 12]), np.array([45.0, 20, 60, 20, 60, 30])],
    ]
    drawn = BitMasks.from_polygon_masks(PolygonMasks(polygons), *SIZE)
    a = sample_masks(PolygonMasks(polygons), SIZE, (2, 4), "cpu")
    b = sample_masks(drawn, SIZE, (2, 4), "cpu")
    for stride in (2, 4):
        assert torch.equal(a.masks[stride], b.masks[stride])
    assert torch.equal(a.areas, b.areas)
    assert torch.equal(a.centers, b.centers)


@pytest.mark.parametrize("masks", [PolygonMasks([]), BitMasks(torch.zeros(0, 20, 20))])
def test_no_instances_keep_their_shapes(masks: PolygonMasks | BitMasks) -> None:
    made = sample_masks(masks, SIZE, (4,), "cpu")
    assert made.masks[4].shape == (0, 8, 16)
    assert made.centers.shape == (0, 2)


def test_an_empty_mask_has_its_centre_at_the_origin() -> None:
    made = sample_masks(BitMasks(torch.zeros(1, 20, 20)), SIZE, (4,), "cpu")
    assert made.centers.tolist() == [[0, 0]]


def test_centres_of_mass_or_of_boxes() -> None:
    instances = rectangles(32, 64, [(0, 0, 16, 16)])
    instances.gt_masks.tensor[0, 8:, 8:] = False  # an L
    mass = read_ground_truth(instances, SIZE, (4,), mass_center=True).centers
    box = read_ground_truth(instances, SIZE, (4,), mass_center=False).centers
    assert box.tolist() == [[8, 8]]
    # Two 8 x 8 blocks at 3.5 and one at 11.5.
    torch.testing.assert_close(mass, torch.tensor([[18.5 / 3, 18.5 / 3]]))


def test_missing_masks_are_named() -> None:
    instances = Instances((32, 64), gt_boxes=Boxes(torch.rand(1, 4)), gt_classes=torch.zeros(1))
    with pytest.raises(UserError, match="no gt_masks"):
        read_ground_truth(instances, SIZE, (4,), mass_center=True)
    assert read_ground_truth(instances, SIZE, (), mass_center=False).masks is None
