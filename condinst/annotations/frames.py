"""Frames that coordinates may be in by mistake, found by a vote over a whole file.

Coordinates should be pixels from the image's corner, boxes x, y, width, height. Tools also write
shares or percent of width and height, y before x, corners or a centre for a box. One annotation
alone seldom tells; many do. A side, boxes or outlines, counts as wrong only if the other agrees
with it in another reading, or if it leaves its image.

Letters: ``n`` annotations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.annotations.box_readings import SWAPPED, as_corners, overlap, readings
from condinst.annotations.lone_boxes import LoneBoxes
from condinst.annotations.scales import in_percent, same_shape, shares

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALIKE = 0.8  # intersection over union of a box in another reading with its outline
SURE = 0.95  # the same, where it must be no chance
_FIRM = 0.05  # by which one reading must be better than another to count
_PERCENT = 100.5
_SPREAD = 60.0  # percent that some outline reaches if they are percent
_UNLIKELY = math.log(1e-4)
_MOST = 0.8  # of all outlines, where some are to speak for all
_EDGE = 1.0  # pixels that an outline may stick out by
_FEW = 3
_BEYOND = 1.1  # times its image's side that an outline reaches which is far outside
_STRANGE = 0.3  # intersection over union of a box with a mask that it is not around
_SAMPLES = 4096

CORNERS = "box as corners"
NORMALISED = "outline normalised"
RESIZED = "RLE of another size"


class Frame(NamedTuple):
    """What is wrong with a file's coordinates.

    Attributes:
        kind: a few words.
        outlines: whether polygons are in the frame.
        boxes: whether boxes are.
        swapped: y stands before x.
        scale: of x and y; None: percent of the image.
    """

    kind: str
    outlines: bool
    boxes: bool
    swapped: bool = False
    scale: tuple[float, float] | None = (1.0, 1.0)

    def factors(self, width: int, height: int) -> tuple[float, float]:
        """Pixels of an image for a unit of x and of y."""
        return self.scale or (width / 100, height / 100)


class Verdict(NamedTuple):
    """What the vote came to.

    Attributes:
        reading: name of the one that most boxes are in; None: x, y, width, height.
        minor: names of those that some are in.
        shares: outlines are shares of the image, so whole numbers up to 1 are too.
        shape: run-length masks of other sizes than their images have these images' shape.
        frame: of outlines, or of both; None: pixels.
        doubt: what cannot be told, in a sentence.
        hint: what may be wrong, in a sentence.
    """

    reading: str | None = None
    minor: frozenset[str] = frozenset()
    shares: bool = False
    shape: bool = False
    frame: Frame | None = None
    doubt: str | None = None
    hint: str | None = None


def _inside(around: Floats, sizes: Floats) -> Bools:
    right = (around[:, :2] >= -_EDGE, around[:, 2:] <= sizes + _EDGE)
    return np.logical_and.reduce(np.concatenate(right, axis=1), axis=1)


class Votes:
    """What a file's annotations say, many at a time.

    ``alone`` is about outlines by themselves; ``readings`` about boxes beside outlines in pixels;
    the rest about one side in another frame than the other.
    """

    def __init__(self) -> None:
        self.masks = 0
        self.total = 0  # of them, polygons
        self.plain = 0
        self.readings: Counter[str] = Counter()
        self.sure: Counter[str] = Counter()
        self.far = 0  # boxes that reach beyond 100
        self.shares = 0
        self.alone: Counter[str] = Counter()
        self.reach = np.zeros(2)
        self.chance = 0.0  # logarithm: that outlines in pixels all lie within 100 of the corner
        self.outlines: Counter[str] = Counter()  # in that frame beside boxes in pixels
        self.leaving: Counter[str] = Counter()  # of them, outlines or boxes outside their image
        self.ratios: list[Floats] = []
        self.lone = LoneBoxes()
        self.strange = 0  # boxes that are around their masks in no reading
        self.compared = 0
        self.shaped: Counter[bool] = Counter()  # masks of another size, by being of its shape

    def add(
        self, boxes: Floats, around: Floats, sizes: Floats, drawn: Bools, compared: Bools
    ) -> None:
        """Count annotations.

        Args:
            boxes: (n, 4) as they stand.
            around: (n, 4) corners of what the masks cover.
            sizes: (n, 2) width and height of the images.
            drawn: (n,) the masks are polygons.
            compared: (n,) there is a box too.
        """
        self.masks += len(around)
        self._alone(around[drawn], sizes[drawn])
        boxes, around, sizes = boxes[compared], around[compared], sizes[compared]
        self.compared += len(boxes)
        plain, corners = overlap(as_corners(boxes), around), overlap(boxes, around)
        # a sum tells only of boxes that are x, y, width, height, not of corners or a centre
        sums = (as_corners(boxes) > _PERCENT).any(1) & (plain >= ALIKE)
        self.far += int(((boxes > _PERCENT).any(1) | sums).sum())
        self.plain += int(((plain >= ALIKE) & (plain > corners + _FIRM)).sum())
        odd = plain < ALIKE
        if odd.any():
            self._odd(boxes[odd], around[odd], sizes[odd], plain[odd], drawn[compared][odd])

    def _alone(self, around: Floats, sizes: Floats) -> None:
        """Of outlines by themselves."""
        self.total += len(around)
        may, must = shares(around, sizes)
        self.shares += int(must.sum())
        self.alone["may be shares"] += int(may.sum())
        turned = _inside(around[:, SWAPPED], sizes)
        straight = _inside(around, sizes)
        near = (around[:, 2:] <= _PERCENT).all(1) & (around[:, :2] >= -_EDGE).all(1)
        self.alone["turned"] += int((turned & ~straight).sum())
        self.alone["straight"] += int((straight & ~turned).sum())
        self.alone["near"] += int(near.sum())
        self.alone["near, outside"] += int((near & ~straight).sum())
        beyond = (around[:, 2:] > _BEYOND * sizes).any(1)
        self.alone["far outside"] += int((beyond & ~turned).sum())
        self.alone["whole as percent"] += int(in_percent(around, sizes).sum())
        self.reach = np.maximum(self.reach, around[:, 2:].max(0, initial=0))
        self.chance += float(np.log(np.minimum(_PERCENT / sizes, 1)).sum())

    def _odd(
        self, boxes: Floats, around: Floats, sizes: Floats, plain: Floats, drawn: Bools
    ) -> None:
        """Of boxes that are not around their outlines."""
        # shares are scaled one by one before anything is compared
        scaled = shares(around, sizes)[0] & drawn
        around = np.where(scaled[:, None], around * np.tile(sizes, (1, 2)), around)
        best, names = plain + _FIRM, np.full(len(plain), "", object)
        for name, corners in readings(boxes, sizes):
            found = overlap(corners, around)
            better = (found >= ALIKE) & (found > best)
            best, names = np.where(better, found, best), np.where(better, name, names)
        self.readings.update(name for name in names if name)
        self.sure.update(names[best >= SURE])
        pixels = as_corners(boxes)
        percent = overlap(pixels, around * np.tile(sizes, (1, 2)) / 100) >= ALIKE
        self.outlines["percent"] += int((percent & (names == "") & ~scaled & drawn).sum())
        swapped = names == "box with x and y swapped"
        self.leaving["turned outlines"] += int((swapped & ~_inside(around, sizes)).sum())
        self.leaving["turned boxes"] += int((swapped & ~_inside(pixels, sizes)).sum())
        unread = (names == "") & ~percent & ~scaled & (boxes[:, 2:] > 0).all(1)
        self.strange += int((unread & (plain < _STRANGE)).sum())
        rest = unread & drawn
        if rest.any() and sum(map(len, self.ratios)) < _SAMPLES:
            self.ratios.append(np.concatenate((pixels, around, sizes), 1)[rest])

    def resized(self, sizes: Iterable[tuple[Sequence[int], Sequence[int]]]) -> None:
        """Count run-length masks of another size than their image.

        Args:
            sizes: (height, width) of each mask and of its image.
        """
        for mask, image in sizes:
            self.shaped[same_shape(mask, image)] += 1

    def verdict(self) -> Verdict:
        """What all of them come to."""
        name, count = self.readings.most_common(1)[0] if self.readings else ("", 0)
        reading = name if count > self.plain else None
        minor = frozenset(
            name
            for name, sure in self.sure.items()
            if name and name != _TURNED and self._often(sure) and 100 * sure >= self.masks
        )
        all_shares = self.shares > 0 and 2 * self.alone["may be shares"] >= max(self.total, 1)
        if reading == "box with x and y swapped" or self._often(self.readings[_TURNED]):
            return self._swapped(all_shares)
        frame, hint = self._both()
        if frame is None and self._often(self.outlines["percent"]):
            frame = Frame("outline in percent", outlines=True, boxes=False, scale=None)
        alike = self.shaped[True]
        shape = alike >= _FEW and alike >= _MOST * self.shaped.total()
        verdict = Verdict(reading, minor, all_shares, shape, frame, hint=hint)
        if frame is not None or reading is not None:
            return verdict
        verdict = self._scaled(verdict)
        known = verdict.frame is not None or verdict.doubt is not None or verdict.shares
        return verdict if known else verdict._replace(doubt=self._unknown())

    def _often(self, count: int) -> bool:
        """Whether votes are no chance: some, and not a mere few of a small file's."""
        return count >= _FEW or 0 < self.masks <= 2 * count

    def _unknown(self) -> str | None:
        """What most annotations have wrong in no way that is known here, in a sentence."""
        far, strange = self.alone["far outside"], self.strange
        if far >= _FEW and 2 * far > self.total:
            return (
                f"{far:,} of {self.total:,} outlines ({far / self.total:.0%}) reach far beyond "
                "their images: all may be in another unit, such as thousandths, or drawn on larger "
                "images; write them in pixels of these images"
            )
        if strange >= _FEW and 2 * strange > self.compared:
            return (
                f"{strange:,} of {self.compared:,} boxes ({strange / self.compared:.0%}) lie "
                "elsewhere than their masks: one side is written in a way that is not known here, "
                "such as run lengths row by row, and which cannot be told; correct the JSON"
            )
        return None

    def _both(self) -> tuple[Frame | None, str | None]:
        """A frame that boxes and outlines are in together, and what may be one."""
        turned, straight = self.alone["turned"], self.alone["straight"]
        outside = self.alone["near, outside"]
        if self.alone["near"] == self.total > self.alone["may be shares"] and not self.far:
            spread = (self.reach >= _SPREAD).all()
            whole = self.alone["whole as percent"]
            sure = whole >= _FEW and whole >= _MOST * self.total
            if sure or (
                spread and (self.chance < _UNLIKELY or (outside > turned and self._often(outside)))
            ):
                return Frame("coordinates in percent", True, True, scale=None), None
            if self.chance < _UNLIKELY and self.total >= _FEW:
                return None, (
                    f"all {self.total:,} outlines lie within 100 pixels of their images' corner: "
                    "if they are percent of width and height, write them in pixels"
                )
        if self._often(turned) and turned > 9 * straight:
            return Frame("x and y swapped", outlines=True, boxes=True, swapped=True), None
        return None, None

    def _swapped(self, all_shares: bool) -> Verdict:
        """Boxes and outlines have x and y swapped against each other: the wrong one leaves."""
        outlines, boxes = self.leaving["turned outlines"], self.leaving["turned boxes"]
        count = self.readings[_TURNED]
        if outlines > boxes:
            frame = Frame("outline with x and y swapped", True, False, swapped=True)
            return Verdict(shares=all_shares, frame=frame)
        if boxes > outlines:
            return Verdict(_TURNED if count > self.plain else None, shares=all_shares)
        return Verdict(
            shares=all_shares,
            doubt=f"boxes and outlines of {count:,} of {self.total:,} annotations have x and y "
            "swapped against each other, and both lie in their images: which of them is right "
            "cannot be told; correct the JSON",
        )

    def _scaled(self, verdict: Verdict) -> Verdict:
        """One side is larger than the other by one factor."""
        if not self.ratios:
            return verdict
        boxes, around, sizes = np.split(np.concatenate(self.ratios), [4, 8], axis=1)
        extent = np.maximum(around[:, 2:] - around[:, :2], 1e-9)
        factors = np.median((boxes[:, 2:] - boxes[:, :2]) / extent, axis=0)
        alike = overlap(boxes, around * np.tile(factors, 2)) >= ALIKE
        if 10 * alike.sum() < 8 * len(alike) or not self._often(int(alike.sum())):
            return verdict
        outlines = int((~_inside(around, sizes) & alike).sum())
        leaving = int((~_inside(boxes, sizes) & alike).sum())
        across, down = factors.tolist()
        if outlines > leaving:
            scale = (across, down)
            return verdict._replace(
                frame=Frame("outline of another scale", True, False, False, scale)
            )
        if leaving > outlines:  # boxes are taken from outlines, as ever
            return verdict
        return verdict._replace(
            doubt=f"boxes are {across:.3g} x {down:.3g} times as large as the outlines in "
            f"{int(alike.sum()):,} of {self.total:,} annotations, and both lie in their images: "
            "which of them is right cannot be told; correct the JSON"
        )


_TURNED = "box with x and y swapped"
_FRAMES = ("outline in percent", "coordinates in percent", "x and y swapped")
_FRAMES += ("outline with x and y swapped", "outline of another scale", NORMALISED, RESIZED)
_NOTHING = np.zeros((0, 4))
KINDS = frozenset([*_FRAMES, *(name for name, _ in readings(_NOTHING, _NOTHING[:, :2]))])
