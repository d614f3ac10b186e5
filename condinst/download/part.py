"""A partly downloaded file.

While a file ``F`` is being downloaded, its bytes are in ``F.part``, and ``F.part.done`` lists the
complete pieces. A kill at any byte costs at most the pieces then in transfer.
"""

from __future__ import annotations

import os
from pathlib import Path


def held(path: Path) -> int:
    """Bytes of a file that are on disk, whether complete or partly downloaded."""
    if path.exists():
        return path.stat().st_size
    try:
        lines = (path.parent / f"{path.name}.part.done").read_text().split("\n")
        size, piece = map(int, lines[0].split()[:2])
        return min(size, piece * len(set(lines[1:-1])))
    except (FileNotFoundError, ValueError, IndexError):
        return 0


class Part:
    """A partly downloaded file. Bytes are written before the line that records them."""

    def __init__(self, path: Path, size: int, piece: int, identity: str) -> None:
        self.path = path.with_name(path.name + ".part")
        self.journal = path.with_name(path.name + ".part.done")
        self.size, self.piece = size, piece
        self.count = -(-size // piece)
        self._head = f"{size} {piece} {identity}"
        self.done = self._known()

    def __enter__(self) -> Part:
        if not self.done:
            self.journal.write_text(self._head + "\n")
        flags = os.O_RDWR | os.O_CREAT
        self._file = os.open(self.path, flags, 0o666)
        os.ftruncate(self._file, self.size)
        self._lines = self.journal.open("a")
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)
        self._lines.close()

    @property
    def held(self) -> int:
        """Bytes of complete pieces."""
        return sum(end - start for start, end in map(self.span, self.done))

    def span(self, number: int) -> tuple[int, int]:
        """Where a piece begins and ends."""
        return number * self.piece, min((number + 1) * self.piece, self.size)

    def write(self, block: bytes, at: int) -> None:
        """Write bytes at their offset."""
        view = memoryview(block)
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written

    def finish(self, number: int) -> None:
        """Record that a piece is complete."""
        if number not in self.done:
            self.done.add(number)
            self._lines.write(f"{number}\n")
            self._lines.flush()

    def read(self, number: int) -> bytes:
        """A complete piece."""
        start, end = self.span(number)
        return os.pread(self._file, end - start, start)

    def _known(self) -> set[int]:
        if not self.path.is_file() or not self.journal.is_file():
            return set()
        *lines, torn = self.journal.read_text().split("\n")
        if torn:  # killed within a line: the next one must not continue it
            self.journal.write_text("\n".join([*lines, ""]))
        if not lines or lines[0] != self._head or self.path.stat().st_size != self.size:
            return set()
        return {int(line) for line in lines[1:] if line.isdigit() and int(line) < self.count}
