"""Files whose coordinates are in another frame as a whole: named once, mended on the wrong side."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from condinst.annotations.checks import check_annotations

Record = dict[str, Any]
Change = Callable[[Record, int, int], object]

WIDTH, HEIGHT = 600, 300
BOXES = ([30, 60, 90, 120], [450, 15, 120, 90], [180, 150, 270, 135], [300, 30, 240, 240])


def outline(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


@pytest.fixture
def content() -> Record:
    """Four images, one standing, with an object each."""
    sizes = [(WIDTH, HEIGHT)] * 3 + [(HEIGHT * 2, WIDTH)]
    return {
        "images": [
            {"id": k, "file_name": f"{k}.jpg", "width": w, "height": h}
            for k, (w, h) in enumerate(sizes, 1)
        ],
        "annotations": [
            {
                "id": k,
                "image_id": k,
                "category_id": 1,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": outline(box),
            }
            for k, box in enumerate(BOXES, 1)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }


def shares(values: list[float], width: int, height: int, whole: float = 1.0) -> list[float]:
    return [value * whole / (height if k % 2 else width) for k, value in enumerate(values)]


def swapped(values: list[float]) -> list[float]:
    return [values[k ^ 1] for k in range(len(values))]


def corners(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def centre(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x + w / 2, y + h / 2, w, h]


def on_boxes(change: Callable[..., Any]) -> Change:
    def spoil(entry: Record, width: int, height: int) -> None:
        entry["bbox"] = change(entry["bbox"], width, height)

    return spoil


def on_outlines(change: Callable[..., Any]) -> Change:
    def spoil(entry: Record, width: int, height: int) -> None:
        entry["segmentation"] = [change(part, width, height) for part in entry["segmentation"]]

    return spoil


def on_both(change: Callable[..., Any]) -> Change:
    def spoil(entry: Record, width: int, height: int) -> None:
        on_boxes(change)(entry, width, height)
        on_outlines(change)(entry, width, height)

    return spoil


def percent(values: list[float], width: int, height: int) -> list[float]:
    return shares(values, width, height, 100)


def turned(values: list[float], _w: int, _h: int) -> list[float]:
    return swapped(values)


def tripled(values: list[float], _w: int, _h: int) -> list[float]:
    return [3 * value for value in values]


CASES = [
    ("all normalised", on_both(shares), "outline normalised"),
    ("outlines normalised", on_outlines(shares), "outline normalised"),
    ("boxes normalised", on_boxes(shares), "box normalised"),
    ("boxes as corners", on_boxes(lambda box, w, h: corners(box)), "box as corners"),
    (
        "boxes as normalised corners",
        on_boxes(lambda box, w, h: shares(corners(box), w, h)),
        "box as corners, normalised",
    ),
    (
        "boxes by their normalised centre",
        on_boxes(lambda box, w, h: shares(centre(box), w, h)),
        "box by its centre, normalised",
    ),
    ("boxes by their centre", on_boxes(lambda box, w, h: centre(box)), "box by its centre"),
    ("all in percent", on_both(percent), "coordinates in percent"),
    ("boxes in percent", on_boxes(percent), "box in percent"),
    ("outlines in percent", on_outlines(percent), "outline in percent"),
    ("x and y swapped", on_both(turned), "x and y swapped"),
    ("outlines swapped", on_outlines(turned), "outline with x and y swapped"),
    ("boxes swapped", on_boxes(turned), "box with x and y swapped"),
    (
        "boxes as swapped corners",
        on_boxes(lambda box, w, h: swapped(corners(box))),
        "box as corners with x and y swapped",
    ),
    ("outlines too large", on_outlines(tripled), "outline of another scale"),
]


def spoilt(content: Record, spoil: Change, only: int | None = None) -> Record:
    changed = copy.deepcopy(content)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for entry in changed["annotations"]:
        if only is None or entry["id"] == only:
            spoil(entry, *sizes[entry["image_id"]])
    return changed


def require_right(found: Record, content: Record) -> None:
    assert len(found["annotations"]) == len(content["annotations"])
    for entry, right in zip(found["annotations"], content["annotations"], strict=True):
        assert entry["bbox"] == pytest.approx(right["bbox"], abs=1e-6)
        assert entry["segmentation"][0] == pytest.approx(right["segmentation"][0], abs=1e-6)


@pytest.mark.parametrize(
    ("spoil", "kind"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_one_fault_names_the_frame_and_repair_mends_that_side(
    content: Record, spoil: Change, kind: str
) -> None:
    wrong = spoilt(content, spoil)
    strict = check_annotations(wrong, "strict")
    (fault,) = [fault for fault in strict.faults if fault.kind == kind]
    assert fault.action == "refused"
    assert fault.id == "4 of 4"
    assert "4 of 4 annotations (100%), such as 1: " in fault.reason
    mended = check_annotations(wrong, "repair")
    assert mended.fatal == []
    require_right(mended.content, content)
    (stops,) = check_annotations(wrong, "drop").fatal
    assert stops.startswith(f"{kind}: 4 of 4 annotations")
    assert "prepare.policy: repair" in stops


@pytest.mark.parametrize("frame", [shares, percent, turned])
@pytest.mark.parametrize("form", [corners, centre])
def test_boxes_of_another_form_in_another_frame(
    content: Record, form: Callable[[list[float]], list[float]], frame: Callable[..., Any]
) -> None:
    def spoil(entry: Record, width: int, height: int) -> None:
        entry["bbox"] = form(entry["bbox"])
        on_both(frame)(entry, width, height)

    mended = check_annotations(spoilt(content, spoil), "repair")
    assert mended.fatal == []
    require_right(mended.content, content)


MINORITY = [case for case in CASES if case[0] not in ("all in percent", "x and y swapped")]


@pytest.mark.parametrize("spoil", [case[1] for case in MINORITY], ids=[c[0] for c in MINORITY])
def test_a_minority_is_mended_and_the_rest_left(content: Record, spoil: Change) -> None:
    copies = [
        {**copy.deepcopy(entry), "id": entry["id"] + 10 * k, "category_id": k}
        for k in range(1, 6)
        for entry in content["annotations"]
    ]
    categories = [{"id": k, "name": str(k)} for k in range(1, 6)]
    content = {**content, "annotations": copies, "categories": categories}
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    wrong = copy.deepcopy(content)
    for entry in wrong["annotations"][:4]:
        spoil(entry, *sizes[entry["image_id"]])
    found = check_annotations(wrong, "repair")
    assert found.fatal == []
    require_right(found.content, content)
    for before, after in zip(
        wrong["annotations"][4:], found.content["annotations"][4:], strict=True
    ):
        assert after is before


def test_what_is_right_is_left_alone(content: Record) -> None:
    found = check_annotations(content, "strict")
    assert (found.faults, found.fatal, found.hints) == ([], [], [])
    assert found.content == content


def test_swapped_against_each_other_in_square_pictures_cannot_be_told(content: Record) -> None:
    for image in content["images"]:
        image.update(width=WIDTH, height=WIDTH)
    found = check_annotations(spoilt(content, on_boxes(turned)), "repair")
    (message,) = found.fatal
    assert "which of them is right cannot be told" in message


def test_small_objects_in_a_corner_are_no_percent_but_said(content: Record) -> None:
    for image in content["images"]:
        image.update(width=1000, height=1000)
    for entry in content["annotations"]:
        entry |= {"bbox": [10, 10, 20, 20], "area": 400, "segmentation": outline([10, 10, 20, 20])}
    found = check_annotations(content, "strict")
    assert found.faults == []
    assert "within 100 pixels" in found.hints[0]


def test_an_object_of_a_pixel_is_one(content: Record) -> None:
    content["annotations"][0] |= {
        "bbox": [0, 0, 1, 1],
        "area": 1,
        "segmentation": outline([0, 0, 1, 1]),
    }
    found = check_annotations(content, "strict")
    assert found.faults == []


def test_a_share_beside_a_box_that_fits_neither_way_is_left_out(content: Record) -> None:
    content["annotations"][0]["segmentation"] = [[0.5, 0.5, 0.6, 0.5, 0.6, 0.9]]
    found = check_annotations(content, "repair")
    assert [(fault.id, fault.kind, fault.action) for fault in found.faults] == [
        (1, "outline normalised", "dropped")
    ]


def test_text_ids_and_missing_flags_vote_too(content: Record) -> None:
    wrong = spoilt(content, on_both(percent))
    for image in wrong["images"]:
        image["id"] = f"p{image['id']}"
    for entry in wrong["annotations"]:
        entry["image_id"] = f"p{entry['image_id']}"
        del entry["iscrowd"]
    require_right(check_annotations(wrong, "repair").content, content)


def small(content: Record, sides: tuple[int, int], count: int = 4) -> Record:
    """Images of about 100 pixels with an object each that stays within them."""
    width, height = sides
    for k, entry in enumerate(content["annotations"]):
        x, y = 7 + 5 * k, 3 + 6 * k
        box = [x, y, width - x - 11 - k, height - y - 8 - k]
        entry |= {"bbox": box, "area": box[2] * box[3], "segmentation": outline(box)}
    for image in content["images"]:
        image.update(width=width, height=height)
    content["annotations"] = content["annotations"][:count]
    return content


@pytest.mark.parametrize("sides", [(120, 110), (128, 96), (90, 70), (48, 64)])
@pytest.mark.parametrize("digits", [2, 4, 9])
def test_percent_of_small_images_shows_by_whole_pixels(
    content: Record, sides: tuple[int, int], digits: int
) -> None:
    right = small(content, sides)
    rounded = on_both(lambda v, w, h: [round(value, digits) for value in percent(v, w, h)])
    wrong = spoilt(right, rounded)
    found = check_annotations(wrong, "repair")
    assert [fault.kind for fault in found.faults] == ["coordinates in percent"]
    for entry, wanted in zip(found.content["annotations"], right["annotations"], strict=True):
        assert entry["bbox"] == pytest.approx(wanted["bbox"], abs=0.02)
        assert entry["segmentation"][0] == pytest.approx(wanted["segmentation"][0], abs=0.02)


@pytest.mark.parametrize("sides", [(120, 110), (100, 100), (96, 64), (64, 48), (200, 160)])
@pytest.mark.parametrize("shift", [0, 0.5, 0.25, 0.123])
def test_small_images_are_no_percent(content: Record, sides: tuple[int, int], shift: float) -> None:
    right = small(content, sides)
    if sides[0] == 200:  # objects in their corner
        right = small(content, (100, 80))
        for image in right["images"]:
            image.update(width=200, height=160)
    moved = on_both(lambda v, w, h: [v[0] + shift, v[1] + shift, *v[2:]])
    found = check_annotations(spoilt(right, moved), "strict")
    assert [fault.kind for fault in found.faults] == []


def test_few_small_images_tell_nothing(content: Record) -> None:
    wrong = spoilt(small(content, (120, 110), count=2), on_both(percent))
    found = check_annotations(wrong, "strict")
    assert {fault.kind for fault in found.faults} == {"area wrong"}
