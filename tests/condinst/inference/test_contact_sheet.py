"""The contact sheet: whole images in their cells, masks by class, the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condinst.annotations.building import build_index
from condinst.data.index import open_index
from condinst.errors import UserError
from condinst.inference.contact_sheet import contact_sheet


@pytest.fixture
def index(tiny_dataset: Any, tmp_path: Path) -> Any:
    build_index(tiny_dataset.annotations, tiny_dataset.images, tmp_path / "index")
    return open_index(tmp_path / "index")


def test_size_follows_images_and_columns(index: Any) -> None:
    assert contact_sheet(index, columns=3, cell=96).shape == (2 * 96 + 4, 3 * 96 + 8, 3)
    assert contact_sheet(index, images=2, columns=3, cell=48).shape == (48, 2 * 48 + 4, 3)


def test_masks_are_drawn_where_they_are(index: Any) -> None:
    plain, drawn = (
        contact_sheet(index, images=1, cell=96, seed=None, masks=masks) for masks in (False, True)
    )
    changed = np.argwhere((plain != drawn).any(2)) - [16, 0]  # 64 rows in the middle of 96
    assert changed.min(0).tolist() == [8, 8]
    assert changed.max(0).tolist() == [39, 39]
    assert (drawn[16 + 8, 8:40] == 255).all()  # the contour


def test_a_crowd_has_a_black_contour(index: Any) -> None:
    drawn = contact_sheet(index, images=3, columns=1, cell=96, seed=None)
    third = drawn[2 * 100 + 16 :][:64]
    assert (third[:, 10] == 0).all()
    assert (third[:, 29] == 0).all()


def test_a_seed_chooses_the_images(index: Any) -> None:
    sheets = [contact_sheet(index, images=2, cell=48, seed=seed).tobytes() for seed in (1, 1)]
    assert sheets[0] == sheets[1]
    others = {contact_sheet(index, images=2, cell=48, seed=seed).tobytes() for seed in range(8)}
    assert len(others) > 1


def test_a_missing_image_is_named(tiny_dataset: Any, tmp_path: Path) -> None:
    build_index(tiny_dataset.annotations, tmp_path / "nowhere", tmp_path / "index")
    with pytest.raises(UserError, match=r"000001.jpg is missing"):
        contact_sheet(open_index(tmp_path / "index"), images=1, seed=None)
