"""The range of values beyond 8 bits, measured over a whole dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from condinst.files.pixels import KINDS, span

LEVELS = 256


class Extent(NamedTuple):
    """The least and the largest value of an image, and whether all are whole numbers by type."""

    kind: str
    low: float
    high: float
    whole: bool


@dataclass
class Depths:
    """What deep images hold; filled by many threads.

    Attributes:
        images: their files and what was measured.
    """

    images: dict[Path, Extent] = field(default_factory=dict)

    def add(self, path: Path, kind: str, found: NDArray[Any]) -> None:
        """Note an image's values, at least one."""
        whole = found.dtype.kind != "f"
        self.images[path] = Extent(kind, float(found.min()), float(found.max()), whole)

    def ranges(self) -> dict[str, list[float]]:
        """The values that become 0 and 256, of each kind that occurs."""
        found = {}
        for kind in KINDS:
            alike = [extent for extent in self.images.values() if extent.kind == kind]
            if alike:
                low = min(extent.low for extent in alike)
                high = max(extent.high for extent in alike)
                whole = all(extent.whole for extent in alike)
                found[kind] = list(span(low, high, whole=whole))
        return found

    def dark(self, path: Path, ranges: Mapping[str, list[float]]) -> str | None:
        """Why an image would be read as all black, though it is not; None: it is not so."""
        extent = self.images.get(path)
        if extent is None or extent.high == extent.low:
            return None
        low, high = ranges[extent.kind]
        level = (extent.high - low) * LEVELS / (high - low)
        if level >= 1:
            return None
        return (
            f"its values go from {extent.low:g} to {extent.high:g}, which is black where "
            f"{low:g} to {high:g} is the range of all {KINDS[extent.kind]} pictures; give it the "
            "same range as the others"
        )


def sentences(ranges: Mapping[str, list[float]]) -> Iterator[str]:
    """How deep images are read."""
    for kind, (low, high) in ranges.items():
        yield f"{KINDS[kind]} pictures: {low:g} to {high:g} becomes 0 to 255 in all of them"
