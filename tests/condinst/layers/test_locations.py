from condinst.layers.locations import cell_locations, unit_coordinates


def test_cells_lie_on_the_middle_pixel_of_their_stride() -> None:
    assert cell_locations(2, 3, 8).tolist() == [
        [4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12],
    ]  # fmt: skip


def test_unit_coordinates_span_the_map() -> None:
    x, y = unit_coordinates(2, 3)
    assert x.tolist() == [-1, 0, 1, -1, 0, 1]
    assert y.tolist() == [-1, -1, -1, 1, 1, 1]
