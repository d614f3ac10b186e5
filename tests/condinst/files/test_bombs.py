"""Small files that ask for gigabytes: refused, or read in less than one and within 10 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.condinst.files import bombs

GIGABYTE = 1_000_000_000
IMAGE = "from condinst.data.images import read_oriented", "read_oriented(str(path))"
CHECKPOINT = "from condinst.checkpoint.reading import load_checkpoint", "load_checkpoint(path)"
LABELME = (
    "from pipeline.acquire.formats import labelme",
    'raise UserError(labelme.read(path.with_suffix(".jpg"), path).problems[0])',
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("side", "depth", "message"),
    [
        (10_000, 8, ""),
        (7_000, 16, ""),
        (
            10_000,
            16,
            "10,000 = 100,000,000 pixels, each of which takes 2 times the memory to decode",
        ),
        (38_000, 8, "1,444,000,000 pixels; the limit is 100,000,000"),  # 4.3 GB as RGB
    ],
)
def test_images(tmp_path: Path, side: int, depth: int, message: str) -> None:
    path = tmp_path / "a.png"
    bombs.png(path, side, depth)
    assert path.stat().st_size < 10_000_000
    said, memory = bombs.read(path, *IMAGE)
    assert (message in said) if message else not said
    assert memory < GIGABYTE


def test_base64_in_labelme(tmp_path: Path) -> None:
    bombs.png(tmp_path / "mask.png", 30_000, colours=1)  # 0.9 GB
    bombs.labelme(tmp_path / "1.json", tmp_path / "mask.png")
    said, memory = bombs.read(tmp_path / "1.json", *LABELME)
    assert "1.json: shape 0: its mask, a base64 PNG, has 900,000,000 pixels; the limit is" in said
    assert memory < GIGABYTE / 10


def test_checkpoints(tmp_path: Path) -> None:
    bombs.checkpoint(tmp_path / "model.pth", 520 << 20)
    assert (tmp_path / "model.pth").stat().st_size < 5_000_000
    said, memory = bombs.read(tmp_path / "model.pth", *CHECKPOINT)
    assert "is compressed and would inflate from" in said
    assert memory < GIGABYTE / 10
