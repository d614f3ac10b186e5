"""Images and videos that a user gives: files, folders, globs."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condinst.atomic import atomic_file
from condinst.errors import UserError
from condinst.files import images as image_files
from condinst.files import pixels
from condinst.files.names import expanded
from condinst.files.pixels import Ranges

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"]
)
VIDEO_SUFFIXES = frozenset([".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"])


@dataclass(frozen=True)
class Unreadable:
    """An input that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Media:
    """What was found: image files, video files, and inputs that are neither."""

    images: tuple[Path, ...]
    videos: tuple[Path, ...]
    faults: tuple[Unreadable, ...]


def find_media(inputs: Sequence[str | Path]) -> Media:
    """Sorts the user's inputs; each file appears once, in the order given.

    Args:
        inputs: Files, folders (searched recursively) and globs such as ``photos/*.jpg``.
    """
    images: dict[Path, None] = {}
    videos: dict[Path, None] = {}
    faults: list[Unreadable] = []
    for given in map(str, inputs):
        files, fault = _expand(given)
        if fault:
            faults.append(Unreadable(given, fault))
        for file in files:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                videos[file] = None
            else:
                images[file] = None
    return Media(tuple(images), tuple(videos), tuple(faults))


def _expand(given: str) -> tuple[list[Path], str]:
    """The files that an input matches, or why there are none."""
    path = expanded(given)
    if path.is_file():
        return [path], ""
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in known]
        return files, "" if files else "the folder has no images or videos"
    if glob.has_magic(given):
        # Path.glob takes no absolute patterns
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207
        files = [Path(p) for p in sorted(found) if Path(p).is_file()]
        return files, "" if files else "no file matches this glob"
    return [], "it does not exist"


def read_image(path: Path, ranges: Ranges | None = None) -> np.ndarray:
    """An image as (h, w, 3) uint8 RGB, rotated by its EXIF orientation.

    Args:
        path: The file.
        ranges: How values of more than 8 bits are scaled; None: by the image's own range.

    Raises:
        ValueError: It does not decode.
    """
    try:
        with image_files.opened(path, "it") as file:
            return pixels.as_seen(file, ranges)
    except UserError as error:
        raise ValueError(str(error)) from error


class Video:
    """A video file to read frame by frame.

    Args:
        path: The file.

    Raises:
        ValueError: It cannot be opened or has no frames.
    """

    def __init__(self, path: Path) -> None:
        import cv2

        self._capture = cv2.VideoCapture(str(path))
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or not self.width:
            raise ValueError("it is not a video that can be decoded here")
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        # From the header, which is sometimes wrong: only for the progress bar.
        self.expected_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self) -> Iterator[np.ndarray]:
        """Frames as (h, w, 3) uint8 RGB until the end."""
        try:
            while True:
                good, frame = self._capture.read()
                if not good:
                    return
                yield np.ascontiguousarray(frame[..., ::-1])
        finally:
            self._capture.release()


class VideoSink:
    """Writes an MP4 file atomically, under `with`.

    Args:
        path: Of the file, ending in ``.mp4``.
        frames_per_second: Its frame rate.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        self.path = path
        self.frames_per_second = frames_per_second
        self._writer = None
        self._file = contextlib.ExitStack()

    def __enter__(self) -> VideoSink:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame, (h, w, 3) uint8 RGB; all must have the size of the first."""
        import cv2

        height, width = (side // 2 * 2 for side in frame.shape[:2])  # codecs need even sides
        if self._writer is None:
            partial = self._file.enter_context(atomic_file(self.path))
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(
                str(partial), code, self.frames_per_second, (width, height)
            )
        self._writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.release()
        self._file.__exit__(*error)
