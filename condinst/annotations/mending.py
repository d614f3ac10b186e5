"""One annotation that may not be sound: repaired where one answer is right, or left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from condinst.annotations import boxes, frames, measuring, notation, polygons, resizing, rle, scales
from condinst.annotations.box_readings import without_unit
from condinst.annotations.faults import Ledger, Place, Unusable
from condinst.annotations.ids import canonical
from condinst.annotations.polygons import Box, is_number
from condinst.annotations.screening import MARGIN
from condinst.files.names import brief

Entry = dict[str, Any]

_FLAGS: dict[object, int] = {None: 0, "0": 0, "1": 1}  # and 0, 1, 0.0, 1.0, true, false


class Regions(Protocol):
    """Makes regions of annotations that are left out."""

    def of(self, given: Any, mender: Mender) -> Entry | None:
        """A crowd region without an id; None: it cannot be told where the object is."""


class Mender:
    """Checks annotations one by one, in full.

    Args:
        ledger: gets what is wrong.
        images: entries by id.
        numbers: id of an image or a category in its canonical form to the number it got.
        lost: why an image or a category is not there, by its id.

    Attributes:
        verdict: on the frames that coordinates are in.
        around: corners of what the last one's mask covers.
        regions: makes regions to ignore of what is left out; None: nothing is left of it.
        scales: (x, y) by id of images that were resized after annotating.
    """

    def __init__(
        self,
        ledger: Ledger,
        images: Mapping[int, Entry],
        numbers: Mapping[str, Mapping[Any, int]],
        lost: Mapping[str, Mapping[Any, str]],
    ) -> None:
        self.ledger = ledger
        self.images = images
        self.numbers = numbers
        self.lost = lost
        self.verdict = frames.Verdict()
        self.around: Box = (0.0, 0.0, 0.0, 0.0)
        self.regions: Regions | None = None
        self.scales: Mapping[int, tuple[float, float]] = {}
        self.scale: tuple[float, float] | None = None  # of the box at hand, as of its mask
        self.turned = self.moved = self.rewritten = False

    def mend(self, given: Any, place: str, twice: bool) -> Entry | None:
        """An annotation that can be used, without an id if its own cannot; None: left out.

        Args:
            given: as it is in the JSON.
            place: stands for the id of one without.
            twice: its id is used before.
        """
        mark = len(self.ledger.faults)
        try:
            return self._mend(given, place, twice)
        except Unusable:
            self.ledger.only_last_since(mark)
            return None if self.regions is None else self.regions.of(given, self)

    def _mend(self, given: Any, place: str, twice: bool) -> Entry:
        if not isinstance(given, dict):
            at = Place("annotation", place)
            self.ledger.lost(at, "no mapping", f"it is {str(given)[:60]!r}, no mapping")
        number = place if given.get("id") is None else given["id"]
        at = Place("annotation", number)
        image = self.images[self._reference(at, given, "image_id", "image")]
        at = Place("annotation", number, image["file_name"])
        if "unread" in given:
            self.ledger.lost(at, "label unusable", str(given["unread"]))
        category = self._reference(at, given, "category_id", "category")
        height, width = image["height"], image["width"]
        entry = {**given, "image_id": image["id"], "category_id": category}
        entry["iscrowd"] = self._crowd(at, given)
        self.scale = None
        self.turned = self.moved = self.rewritten = False
        if not entry["iscrowd"] and given.get("segmentation") in (None, []) and "bbox" in given:
            return self._box_alone(at, entry, given, twice)
        entry["segmentation"] = mask = self._mask(at, given, height, width)
        if entry["iscrowd"] and isinstance(mask, list):
            reason = "a crowd region drawn as polygons, not as run lengths"
            self.ledger.note(at, "crowd as polygon", reason)
        self.around = around = measuring.around(mask)
        box = self._box(at, given, around, width, height, bool(entry["iscrowd"]))
        entry["bbox"] = given["bbox"] if box == given.get("bbox") else box
        entry["area"] = self._area(at, entry, around, height, width)
        self._identity(at, entry, twice)
        return given if not self.rewritten and _alike(entry, given) else entry

    def _box_alone(self, at: Place, entry: Entry, given: Entry, twice: bool) -> Entry:
        """An object of which only the box is known."""
        image, box = self.images[entry["image_id"]], given["bbox"]
        height, width = image["height"], image["width"]
        if not boxes.is_box(box):
            reason = f"it has no mask, and its bbox is {str(box)[:80]}, must be four finite numbers"
            self.ledger.lost(at, "box unusable", reason)
        size = np.array([[width, height]], np.float64)
        if scales.shares(np.array([boxes.corners(box)], np.float64), size)[1][0]:
            reason = f"it has no mask, and its bbox {box} lies within 0 to 1: as shares of width"
            self.ledger.lost(at, "box normalised", f"{reason} and height it must be made pixels")
        problem = boxes.problem(box, boxes.corners(box), width, height, False)
        if problem is not None:
            self.ledger.lost(at, problem[0], f"it has no mask, and its bbox {box} {problem[1]}")
        entry["bbox"] = box = self._cut(at, box, width, height)
        self.around = boxes.corners(box)
        area: Any = given.get("area")
        if not is_number(area) or area < 0:
            if "area" in given:
                reason = f"its area is {str(area)[:40]}, must be a number of 0 or more"
                self.ledger.harmless(at, "area wrong", f"{reason}; taken from its box")
            entry["area"] = float(box[2] * box[3])
        self._identity(at, entry, twice)
        return given if _alike(entry, given) else entry

    def _reference(self, at: Place, given: Entry, key: str, what: str) -> int:
        value = given.get(key)
        plain = canonical(value)
        if plain in self.lost[what]:
            self.ledger.lost(at, f"{what} left out", f"its {what} {brief(value)} is left out")
        if plain not in self.numbers[what]:
            kind = f"{what} unknown"
            self.ledger.lost(at, kind, f"its {key} is {brief(value)}, which is not listed")
        if isinstance(value, float):
            reason = f"its {key} is {value!r}, not a whole number"
            self.ledger.harmless(at, "id is a fraction", reason)
        return self.numbers[what][plain]

    def _crowd(self, at: Place, given: Entry) -> int:
        if "iscrowd" not in given:
            self.ledger.harmless(at, "iscrowd missing", "it has no iscrowd; taken as 0")
            return 0
        value = given["iscrowd"]
        if type(value) is int and value in (0, 1):
            return value
        reason = f"its iscrowd is {brief(value)}, must be 0 or 1"
        if isinstance(value, (bool, float)) and value in (0, 1):
            found: int | None = int(value)
        else:
            found = _FLAGS.get(value) if isinstance(value, str) or value is None else None
        if found is None:
            self.ledger.lost(at, "iscrowd unusable", reason)
        self.ledger.harmless(at, "iscrowd unusable", f"{reason}; taken as {found}")
        return found

    def _mask(self, at: Place, given: Entry, height: int, width: int) -> Any:
        mask, unusual = notation.tidy(given.get("segmentation"), height, width)
        if unusual:
            self.ledger.repairable(at, "mask notation", unusual)
            self.rewritten = True  # be it equal, as 10.0 is to 10
        if isinstance(mask, dict):
            return self._coded(at, mask, given.get("bbox"), height, width)
        if not isinstance(mask, list):
            what = "no segmentation" if mask is None else f"the segmentation {str(mask)[:40]!r}"
            self.ledger.lost(at, "mask missing", f"it has {what}, must be polygons or RLE")
        if not mask:
            self.ledger.lost(at, "mask missing", "its list of polygons is empty")
        other = polygons.usual_layout(mask)
        if other is not None:
            reason = "its polygons are no lists [x, y, x, y, ...] in a list"
            self.ledger.repairable(at, "polygon layout", reason)
            mask = other
        parts = self._usable(at, mask)
        return self._clipped(
            at, self._placed(at, parts, given.get("bbox"), height, width), height, width
        )

    def _coded(self, at: Place, mask: Entry, box: Any, height: int, width: int) -> Entry:
        """A run-length mask of its image's size."""
        problem = rle.problem(mask, height, width)
        if problem is None:
            return mask
        if " of size " not in problem:
            self.ledger.lost(at, "mask empty" if "empty" in problem else "RLE corrupt", problem)
        known = box if boxes.is_box(box) else None
        other = resizing.fitted(mask, known, height, width, sure=self.verdict.shape)
        if other is None:
            self.ledger.lost(at, frames.RESIZED, problem)
        self.ledger.repairable(at, frames.RESIZED, f"{problem}; {other.how}")
        self.scale, self.moved = other.scale, True
        return other.mask

    def _placed(
        self, at: Place, parts: list[list[float]], box: Any, height: int, width: int
    ) -> list[list[float]]:
        """Polygons in pixels, whatever frame they are in."""
        around = polygons.extents(parts)
        may, must = scales.shares(np.array([around]), np.array([[width, height]], np.float64))
        if must[0] or (may[0] and self.verdict.shares):
            found = polygons.moved(parts, (width, height))
            if (
                boxes.is_box(box)
                and boxes.read(box, polygons.extents(found), width, height, self.verdict) is None
            ):
                reason = f"its polygons lie within 0 to 1, its bbox {box} is not around them"
                self.ledger.lost(at, frames.NORMALISED, f"{reason}, be they shares or pixels")
            reason = "its polygons are shares of width and height, must be pixels"
            self.ledger.repairable(at, frames.NORMALISED, reason)
            self.moved = True
            if boxes.is_box(box) and max(box) <= 1:  # one mistake with the polygons'
                self.scale = (width, height)
            return found
        frame = self.verdict.frame
        if frame is None or not frame.outlines:
            return parts
        found = polygons.moved(parts, frame.factors(width, height), frame.swapped)
        moved = polygons.extents(found)
        if frame.boxes:
            if frame.swapped and boxes.within(around, width, height) > boxes.within(
                moved, width, height
            ):
                return parts
        elif not boxes.is_box(box) or not polygons.fits(boxes.corners(box), moved):
            return parts
        reach = ", ".join(f"{value:g}" for value in around)
        here = ", ".join(f"{value:g}" for value in moved)
        reason = f"it reaches {reach} (x0, y0, x1, y1), which is {here} in pixels"
        self.ledger.repairable(at, frame.kind, reason)
        self.moved = True
        if frame.boxes:
            self.scale = frame.factors(width, height)
            self.turned = frame.swapped
        return found

    def _usable(self, at: Place, parts: list[Any]) -> list[list[float]]:
        kept = [part for part in parts if polygons.problem(part) is None]
        if len(kept) < len(parts):
            reason = next(filter(None, map(polygons.problem, parts)))
            if not kept:
                self.ledger.lost(at, "polygon unusable", reason)
            reason = f"{len(parts) - len(kept)} of its {len(parts)} polygons left out: {reason}"
            self.ledger.harmless(at, "polygon unusable", reason)
        return kept

    def _clipped(
        self, at: Place, parts: list[list[float]], height: int, width: int
    ) -> list[list[float]]:
        x0, y0, x1, y1 = polygons.extents(parts)
        if x1 <= x0 or y1 <= y0:
            self.ledger.lost(at, "mask empty", "its polygons enclose nothing")
        if min(x0, y0) >= -MARGIN and x1 <= width + MARGIN and y1 <= height + MARGIN:
            return parts
        reach = f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g} in an image of {width} x {height}"
        kept = [inside for part in parts if (inside := polygons.clip(part, width, height))]
        if not kept:
            self.ledger.lost(at, "mask outside", f"its polygons lie outside: {reach}")
        self.ledger.harmless(at, "polygon sticks out", f"its polygons are cut: {reach}")
        return kept

    def _box(
        self, at: Place, given: Entry, around: Box, width: int, height: int, crowd: bool
    ) -> list[float]:
        tight = [around[0], around[1], around[2] - around[0], around[3] - around[1]]
        if "bbox" not in given:
            self.ledger.harmless(at, "box missing", "it has no bbox; taken from its mask")
            return tight
        box = given["bbox"]
        if not boxes.is_box(box):
            reason = f"its bbox is {str(box)[:80]}, must be four finite numbers x, y, width, height"
            self.ledger.repairable(at, "box unusable", reason)
            return tight
        stated, verdict = box, self.verdict
        if self.scale is not None:  # its frame is the mask's
            verdict = verdict._replace(reading=without_unit(verdict.reading))
            box = [box[k] for k in (1, 0, 3, 2)] if self.turned else box
            box = [value * self.scale[k % 2] for k, value in enumerate(box)]
        name, corners = boxes.read(box, around, width, height, verdict) or (
            "",
            boxes.corners(box),
        )
        if name:
            reason = f"its bbox {stated} must be x, y, width, height in pixels; it fits its mask"
            self.ledger.repairable(at, name, f"{reason} {name.removeprefix('box ')}")
            box = [corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1]]
        problem = boxes.problem(box, around, width, height, crowd)
        if problem is not None:
            kind, reason = problem
            self.ledger.repairable(at, kind, f"its bbox {stated} {reason}")
            return tight
        return self._cut(at, box, width, height)

    def _cut(self, at: Place, box: list[float], width: int, height: int) -> list[float]:
        x, y, w, h = box
        if min(x, y) >= -MARGIN and x + w <= width + MARGIN and y + h <= height + MARGIN:
            return box
        reason = f"its bbox {box} is cut to its image of {width} x {height}"
        self.ledger.harmless(at, "box sticks out", reason)
        left, top = max(x, 0), max(y, 0)
        return [left, top, min(x + w, width) - left, min(y + h, height) - top]

    def _area(self, at: Place, entry: Entry, around: Box, height: int, width: int) -> float:
        if "area" not in entry:
            self.ledger.harmless(at, "area missing", "it has no area; taken from its mask")
            return measuring.pixels(entry["segmentation"], height, width)
        if self.moved:  # it is in the other frame as well
            return measuring.pixels(entry["segmentation"], height, width)
        area = entry["area"]
        if not is_number(area) or area < 0:
            reason = f"its area is {str(area)[:40]}, must be a number of 0 or more"
            self.ledger.harmless(at, "area wrong", f"{reason}; taken from its mask")
            return measuring.pixels(entry["segmentation"], height, width)
        most = 1.1 * (around[2] - around[0]) * (around[3] - around[1]) + 4
        covered = measuring.enclosed(entry["segmentation"], height, width)
        if entry["iscrowd"] or 0.5 * covered - 4 <= area <= most:
            return area
        pixels = measuring.pixels(entry["segmentation"], height, width)
        if 0.5 * pixels - 4 <= area <= most:
            return area
        reason = f"its area is {area:g}, its mask has {pixels:g} pixels"
        self.ledger.harmless(at, "area wrong", reason)
        return pixels

    def _identity(self, at: Place, entry: Entry, twice: bool) -> None:
        """Takes away the id that evaluators cannot take."""
        value = entry.get("id")
        if type(value) is not int or not 0 < value < 2**63:
            what = f"its id is {brief(value)}" if "id" in entry else "it has no id"
            reason = f"{what}, must be a whole number above 0; it gets a new one"
            self.ledger.harmless(at, "annotation id unusable", reason)
            entry["id"] = None
        elif twice:
            reason = f"its id {value} is used before; it gets a new one"
            self.ledger.repairable(at, "annotations share an id", reason)
            entry["id"] = None


def _alike(entry: Entry, given: Entry) -> bool:
    """Whether nothing was changed, not even true to 1."""
    return all(
        key in given and type(value) is type(given[key]) and value == given[key]
        for key, value in entry.items()
    )
