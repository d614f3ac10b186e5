"""LabelMe, the desktop tool: beside each image a JSON with its shapes.

Shapes with the same label and ``group_id`` are parts of one object. A rectangle becomes the mask
that it draws, a circle a polygon.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from condinst.annotations import polygons
from condinst.errors import UserError
from condinst.files import images as image_files
from condinst.files import jsontext
from condinst.files.bounds import FAR
from condinst.files.names import brief, is_unicode
from condinst.files.names import problem as name_problem
from pipeline.acquire.formats.image_files import (
    Reading,
    Thing,
    encode,
    plain,
    rasterised,
    size_of,
)
from pipeline.acquire.formats.names import NO_CLASS

_CORNERS = 64  # of a circle

Shape = dict[str, Any]


class _ShapeError(UserError):
    """What is wrong with a shape."""


def pair(
    files: list[Path], image_files: list[Path], images: Path
) -> tuple[dict[Path, Path], list[str]]:
    """Find each JSON's image: at its path, else below the image folder, else by name.

    Returns:
        Image to JSON, and problems.
    """
    known, found, problems = set(image_files), dict[Path, Path](), list[str]()
    by_stem = {(path.parent, path.stem): path for path in image_files}
    for file in files:
        said, problem = _picture_of(file)
        if problem:
            problems.append(problem)
            continue
        places = [(file.parent / said).resolve(), images / said, images / PurePosixPath(said).name]
        beside = [by_stem.get((folder, file.stem)) for folder in (file.parent, images)]
        image_file = next((path for path in (*places, *beside) if path in known), None)
        if image_file is None:
            problems.append(f"{file}: its image {said} is not in {images}")
        elif image_file in found:
            problems.append(f"{file}: {found[image_file]} labels the same image {image_file.name}")
        else:
            found[image_file] = file
    return found, problems


def read(image_file: Path, file: Path | None) -> Reading:
    """Read one image's shapes; without a JSON it has no objects."""
    reading = Reading(size_of(image_file), labelled=file is not None)
    if file is None:
        return reading
    content = jsontext.read(file)  # `pair` has read it before
    h, w = reading.size
    said = content.get("imageHeight") or h, content.get("imageWidth") or w
    if said != (h, w):
        reading.problems.append(
            f"{file}: says {brief(said[1])} x {brief(said[0])} pixels, "
            f"{image_file.name} is {w} x {h}"
        )
    groups: dict[object, list[Any]] = {}
    labels: dict[object, str] = {}
    for number, shape in enumerate(content["shapes"]):
        try:
            label, group = _label(shape), shape.get("group_id")
            if label in NO_CLASS:
                reading.ignored += 1
                continue
            key = (number,) if group is None else (label, str(group))
            part = _segmentation(shape, reading.size)
            groups.setdefault(key, []).append(part)
            labels[key] = label
        except _ShapeError as error:
            reading.problems.append(f"{file}: shape {number}: {error}")
    for key, parts in groups.items():
        reading.things.append(Thing(labels[key], _joined(parts, reading.size)))
    return reading


def _picture_of(file: Path) -> tuple[str, str]:
    """The image path in a JSON, and what is wrong with the JSON."""
    try:
        content = jsontext.read(file)
    except UserError as error:
        return "", str(error)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        return "", f"{file} is not a LabelMe JSON (no list of shapes); move it out of the folder"
    said = content.get("imagePath") or file.with_suffix(".jpg").name
    if not isinstance(said, str) or (reason := name_problem(said)) is not None:
        reason = "is not text" if not isinstance(said, str) else reason
        return "", f"{file}: its imagePath {brief(said)} {reason}; give the name of its image"
    return said.replace("\\", "/"), ""


def _label(shape: object) -> str:
    if not isinstance(shape, dict):
        raise _ShapeError("is not a mapping with label, points and shape_type")
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise _ShapeError(f"its label is {brief(label)}, must be a class name")
    if not is_unicode(label):
        raise _ShapeError(f"its label {brief(label)} is not UTF-8 text; write it again")
    return label.strip()


def _segmentation(shape: Shape, size: tuple[int, int]) -> Any:
    """COCO's segmentation of a shape."""
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(kind, str):
        raise _ShapeError(f"its shape_type is {brief(kind)}, must be text")
    points = _points(shape.get("points"), kind)
    if kind == "mask":
        return encode(_placed(shape.get("mask"), points, size))
    corners = _corners(points, kind)
    problem = polygons.problem(corners)
    if problem is not None:
        raise _ShapeError(problem)
    return [corners]


def _corners(points: NDArray[np.float64], kind: str) -> list[float]:
    """A polygon x, y, x, y, ... of a shape other than a mask."""
    if kind in ("polygon", "rotation"):  # X-AnyLabeling's: a rectangle by its four corners
        return points.ravel().tolist()
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    assert kind == "circle", kind
    radius = math.dist(*points.tolist())
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    corners = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.round(corners, 3).ravel().tolist()


def _points(points: object, kind: str) -> NDArray[np.float64]:
    """A shape's points (P, 2), of the number that its kind needs."""
    least = {
        "polygon": (3, math.inf), "rectangle": (2, 4), "rotation": (4, 4), "circle": (2, 2),
        "mask": (2, 2),
    }  # fmt: skip
    if kind not in least:
        raise _ShapeError(f"is a {kind[:60]}; a mask needs a {', a '.join(least)}")
    try:
        found = np.array(points, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise _ShapeError(f"its points are not pairs of numbers ({error})") from error
    if found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise _ShapeError("its points are not pairs of finite numbers")
    if len(found) and np.abs(found).max() > FAR:
        raise _ShapeError(f"its points reach {np.abs(found).max():g} pixels from the corner")
    low, high = least[kind]
    if not low <= len(found) <= high:
        raise _ShapeError(f"is a {kind} with {len(found)} points; it needs {low}{_more(low, high)}")
    return found


def _more(low: float, high: float) -> str:
    return "" if low == high else " or more" if math.isinf(high) else f" to {high}"


def _placed(text: object, points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask's PNG, which only covers its box, placed in the image."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError) as error:  # the latter: non-ASCII characters
        raise _ShapeError(f"its mask is not a base64 PNG ({error})") from error
    x, y = np.round(points.min(0)).astype(int).tolist()
    try:
        with image_files.opened(io.BytesIO(data), "its mask, a base64 PNG,") as opened:
            w, h = opened.size
            if x < 0 or y < 0 or x + w > size[1] or y + h > size[0]:
                raise _ShapeError(
                    f"its mask of {w} x {h} pixels at {x}, {y} extends beyond the image"
                )
            part = np.asarray(opened.convert("L")) > 0
    except UserError as error:
        raise _ShapeError(str(error)) from error
    whole = np.zeros(size, bool)
    whole[y : y + h, x : x + w] = part
    return whole


def _joined(parts: list[Any], size: tuple[int, int]) -> Any:
    """One object's segmentation: polygons stay polygons unless one part is a mask."""
    if all(isinstance(part, list) for part in parts):
        return [polygon for part in parts for polygon in part]
    return plain(mask_api.merge([rasterised(part, size) for part in parts]))
