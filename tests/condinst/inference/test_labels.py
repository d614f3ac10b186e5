from __future__ import annotations

import itertools

import numpy as np

from condinst.inference.labels import LabelPlacer, Rectangle, render_label
from condinst.inference.palette import DARK, WHITE, Color, class_color


def test_rectangles_overlap_by_area_in_common() -> None:
    one = Rectangle(0, 0, 10, 10)
    assert one.overlap(Rectangle(8, 5, 20, 20)) == 2 * 5
    assert one.overlap(Rectangle(10, 0, 20, 10)) == 0


def test_a_rectangle_is_pushed_back_into_the_picture() -> None:
    assert Rectangle(95, -4, 115, 6).moved_inside(100, 50, 2) == Rectangle(78, 2, 98, 12)


def test_placed_labels_neither_collide_nor_leave_the_picture() -> None:
    placer = LabelPlacer(200, 150, margin=2)
    box = Rectangle(60, 60, 140, 100)
    placed = [placer.place(50, 14, box, (100, 80)) for _ in range(30)]
    found = [place for place in placed if place is not None]
    assert len(found) >= 8
    assert None in placed, "a crowded place must run out"
    for one, other in itertools.combinations(found, 2):
        assert one.overlap(other) == 0
    for one in found:
        assert one.left >= 2
        assert one.top >= 2
        assert one.right <= 198
        assert one.bottom <= 148


def test_a_label_wider_than_the_picture_has_no_place() -> None:
    assert LabelPlacer(40, 40, 2).place(50, 10, Rectangle(0, 0, 40, 40), (20, 20)) is None


def test_a_label_has_rounded_transparent_corners_and_its_colour_inside() -> None:
    tag = render_label("star", "0.93", Color(240, 56, 107), 16)
    assert tag.dtype == np.uint8
    assert tag.shape[2] == 4
    assert tag[0, 0, 3] < 128
    middle = tag[tag.shape[0] // 2, 2]
    assert tuple(middle[:3]) == (240, 56, 107)
    assert middle[3] == 255


def test_colours_are_stable_distinct_and_carry_legible_letters() -> None:
    colors = [class_color(index) for index in range(80)]
    assert colors[0] == Color(0x2F, 0x8C, 0xFF)
    assert len(set(colors)) == 80
    for color in colors:
        light, dark = sorted((color.luminance, color.ink.luminance), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 3.5, color


def test_ink_is_white_on_dark_and_dark_on_light() -> None:
    assert Color(0, 0, 90).ink == WHITE
    assert Color(250, 240, 120).ink == DARK
