from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.predict.media import Video, VideoSink, find_media, read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "deep/c.JPG"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (200, 0, 0)).save(path, "PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_folders_patterns_files_and_videos_are_sorted_out(folder: Path) -> None:
    media = find_media([folder, folder / "b.jpg", str(folder / "*.png")])
    assert [path.name for path in media.images] == ["a.png", "b.jpg", "c.JPG"]
    assert [path.name for path in media.videos] == ["clip.mp4"]
    assert media.faults == ()


def test_what_is_not_there_is_named_with_the_reason(folder: Path) -> None:
    media = find_media([folder / "none.jpg", folder / "empty", str(folder / "*.bmp")])
    assert media.images == ()
    assert [fault.reason for fault in media.faults] == [
        "it does not exist",
        "the folder has no images or videos",
        "no file matches this glob",
    ]


def test_pictures_are_read_as_rgb_and_turned_as_exif_says(tmp_path: Path) -> None:
    gray = tmp_path / "gray.png"
    Image.new("L", (5, 3), 7).save(gray)
    assert read_image(gray).shape == (3, 5, 3)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(turned, exif=exif)
    assert read_image(turned).shape == (8, 4, 3)


def test_what_does_not_decode_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="not an image"):
        read_image(folder / "notes.txt")
    cut = folder / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(ValueError, match="does not decode"):
        read_image(cut)


def test_a_video_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoSink(path, 10) as sink:
        for shade in (0, 120, 250):
            sink.write(np.full((33, 48, 3), shade, np.uint8))
    frames = list(Video(path).frames())
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    assert [round(float(frame.mean()) / 125) for frame in frames] == [0, 1, 2]


def test_a_broken_video_is_an_error_and_an_interrupted_one_is_not_left(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a video"):
        Video(tmp_path / "bad.mp4")
    with pytest.raises(RuntimeError), VideoSink(tmp_path / "half.mp4", 10) as sink:
        sink.write(np.zeros((8, 8, 3), np.uint8))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["bad.mp4"]
