from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from condinst.inference.palette import class_color
from condinst.inference.visualizer import Shapes, draw_instances


def gray(height: int = 60, width: int = 90) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def one_square(size: tuple[int, int] = (60, 90)) -> Shapes:
    mask = np.zeros((1, *size), bool)
    mask[0, 20:40, 30:60] = True
    return Shapes(np.array([[30.0, 20, 60, 40]]), np.array([2]), mask, np.array([0.9]))


def test_nothing_to_draw_leaves_the_picture() -> None:
    image = gray()
    empty = Shapes(np.zeros((0, 4)), np.zeros(0, int), np.zeros((0, 60, 90), bool), np.zeros(0))
    drawn = draw_instances(image, empty, canvas_side=0)
    assert np.array_equal(drawn, image)
    assert drawn is not image


def test_a_mask_is_filled_half_transparently_in_its_class_colour() -> None:
    drawn = draw_instances(gray(), one_square(), canvas_side=0, labels=False, opacity=0.5)
    expected = (np.array(class_color(2)) + 128) / 2
    assert np.abs(drawn[30, 45] - expected).max() <= 1
    assert (drawn[5, 5] == 128).all()


def test_the_contour_is_of_the_full_colour() -> None:
    drawn = draw_instances(gray(), one_square(), canvas_side=0, labels=False)
    distance = np.abs(drawn.astype(int) - np.array(class_color(2))).max(axis=2)
    assert (distance[18:42, 28:62] < 12).any(), "no pixel near the class colour on the edge"
    assert distance[30, 40:50].min() > 30, "inside it shines through"


def test_a_small_picture_is_enlarged_and_a_large_one_kept() -> None:
    assert draw_instances(gray(), one_square(), canvas_side=450).shape == (300, 450, 3)
    assert draw_instances(gray(), one_square(), canvas_side=50).shape == (60, 90, 3)


def test_the_picture_given_is_not_changed() -> None:
    image = gray()
    draw_instances(image, one_square(), canvas_side=0)
    assert (image == 128).all()


@pytest.mark.parametrize(
    "mask", ["whole", "one pixel", "one column", "empty"], ids=lambda name: name.replace(" ", "-")
)
def test_odd_masks_are_drawn(mask: str) -> None:
    pixels = np.zeros((1, 60, 90), bool)
    where = {
        "whole": np.s_[:, :, :],
        "one pixel": np.s_[:, 0, 89],
        "one column": np.s_[:, :, 45],
        "empty": np.s_[:, :0],
    }[mask]
    pixels[where] = True
    shapes = Shapes(np.zeros((1, 4)), np.zeros(1, int), pixels, np.array([0.5]))
    for side in (0, 400):
        drawn = draw_instances(gray(), shapes, ["thing"], canvas_side=side)
        changed = bool((drawn != 128).any())
        assert changed == (mask != "empty")


def test_boxes_alone_and_crowds_and_unknown_names_are_drawn() -> None:
    boxes = Shapes(np.array([[10.0, 10, 50, 40]]), np.array([7]))
    assert (draw_instances(gray(), boxes, canvas_side=0) != 128).any()
    square = one_square()
    crowd = Shapes(square.boxes, square.classes, square.masks, None, np.array([True]))
    drawn = draw_instances(gray(), crowd, ["a", "b", "c"], canvas_side=0, labels=False)
    inside = drawn[24:36, 36:54].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) == 2, "a crowd is hatched"


def test_own_colours_win() -> None:
    red = type(class_color(0))(255, 0, 0)
    drawn = draw_instances(
        gray(), one_square(), canvas_side=0, labels=False, opacity=1.0, colors=lambda _: red
    )
    assert tuple(drawn[30, 45]) == (255, 0, 0)


@pytest.mark.parametrize("image", [np.zeros((60, 90), np.uint8), np.zeros((60, 90, 3), np.float32)])
def test_what_is_no_rgb_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        draw_instances(image, one_square())


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="masks of"):
        draw_instances(gray(50, 50), one_square())


def test_shapes_of_predictions_and_ground_truth() -> None:
    predicted = Instances((60, 90))
    predicted.pred_boxes = Boxes(torch.tensor([[1.0, 2, 30, 40]]))
    predicted.scores = torch.tensor([0.75])
    predicted.pred_classes = torch.tensor([3])
    predicted.pred_masks = torch.ones(1, 60, 90, dtype=torch.bool)
    shapes = Shapes.of(predicted)
    assert len(shapes) == 1
    assert shapes.boxes.tolist() == [[1, 2, 30, 40]]
    assert shapes.scores is not None
    assert shapes.scores[0] == 0.75
    assert shapes.masks is not None
    assert shapes.masks.all()
    for masks in (
        BitMasks(torch.ones(1, 60, 90, dtype=torch.bool)),
        PolygonMasks([[np.array([0.0, 0, 90, 0, 90, 60, 0, 60])]]),
    ):
        truth = Instances((60, 90))
        truth.gt_boxes = Boxes(torch.tensor([[0.0, 0, 90, 60]]))
        truth.gt_classes = torch.tensor([1])
        truth.gt_masks = masks
        shapes = Shapes.of(truth)
        assert shapes.masks is not None
        assert shapes.masks.mean() > 0.95
        assert shapes.scores is None
