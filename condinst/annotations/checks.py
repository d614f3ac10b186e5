"""What COCO annotations can have wrong with them, found before anything trains on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from condinst.annotations import merging, rescaled
from condinst.annotations.faults import Fault, Ledger, Place, Unusable
from condinst.annotations.file_names import leaves_folder
from condinst.annotations.ids import canonical, check_id, numbers
from condinst.annotations.mending import Mender
from condinst.annotations.objects import check_objects
from condinst.annotations.regions import IgnoredRegions
from condinst.files import names
from condinst.files.bounds import PIXELS

Entry = dict[str, Any]


class ImageFile(NamedTuple):
    """What an image's file holds.

    Attributes:
        sizes: (width, height) that annotations may state, the one to prefer first; empty where it
            cannot be used.
        kind: of what is wrong with it or worth knowing; empty for nothing.
        reason: the same in a sentence.
        digest: of the file's content; None: unknown.
    """

    sizes: tuple[tuple[int, int], ...]
    kind: str = ""
    reason: str = ""
    digest: str | None = None


Find = Callable[[str], str | None]
Look = Callable[[list[Entry]], Sequence[ImageFile]]


@dataclass(frozen=True)
class Checked:
    """A COCO JSON's sound part.

    Attributes:
        content: with the lists images, annotations and categories; all ids are whole numbers, all
            annotations have a box, an area and a crowd flag.
        faults: what was wrong, and what became of it.
        fatal: what no policy can help with.
        hints: what may be wrong with it as a whole, in sentences.
        ignored: objects that were left out, but stay as regions.
    """

    content: Entry
    faults: list[Fault]
    fatal: list[str]
    hints: list[str]
    ignored: int = 0


def check_annotations(
    content: Mapping[str, Any],
    policy: str = "drop",
    look: Look | None = None,
    find: Find | None = None,
    *,
    regions: bool = False,
) -> Checked:
    """Part a COCO JSON's content into what can be used and what cannot.

    What is sound is handed on as the same objects; what is changed is copied.

    Args:
        content: with the lists images, annotations and categories.
        policy: ``strict``, ``repair`` or ``drop``; see :class:`condinst.annotations.faults.Ledger`.
        look: gives what the files of images hold; without it they are not looked at.
        find: gives the own name of the file that a name in another writing means, or None.
        regions: objects that are left out stay as crowd regions, which nothing is counted in.
    """
    ledger = Ledger(policy)
    info = _labels(content, ledger)
    categories, category_numbers, lost_categories = _categories(content["categories"], ledger)
    mark, scales = len(ledger.faults), {}
    images, image_numbers, lost_images = _images(content, ledger, look, find, scales)
    ledger.sum_up(mark, {rescaled.KIND}, len(content["images"]), "image")
    mender = Mender(
        ledger,
        {image["id"]: image for image in images},
        {"image": image_numbers, "category": category_numbers},
        {"image": lost_images, "category": lost_categories},
    )
    mender.scales = scales
    mender.regions = ignored = IgnoredRegions() if regions and policy != "strict" else None
    annotations = check_objects(content["annotations"], mender)
    kept = {**content, **info, "categories": categories, "images": images}
    kept["annotations"] = annotations
    count = 0 if ignored is None else ignored.count
    return Checked(kept, ledger.faults, ledger.fatal, ledger.hints, count)


def _labels(content: Mapping[str, Any], ledger: Ledger) -> Entry:
    """What is left to say of labels in other formats; the JSON's ``info`` without that."""
    info = content.get("info")
    if not isinstance(info, dict) or not {"unread", "mended"} <= info.keys():
        return {}
    for number, text in enumerate(info["mended"]):
        ledger.harmless(Place("label", f"#{number}"), "label in another writing", str(text))
    for number, text in enumerate(info["unread"]):
        with suppress(Unusable):
            ledger.lost(Place("label", f"#{number}"), "label unusable", str(text))
    return {"info": {k: v for k, v in info.items() if k not in ("unread", "mended")}}


Table = tuple[list[Entry], dict[Any, int], dict[Any, str]]
"""Entries kept, number of each id in its canonical form, and why others are left out."""


def _categories(listed: list[Any], ledger: Ledger) -> Table:
    found: dict[int | str, Entry] = {}
    lost: dict[Any, str] = {}
    for number, given in enumerate(listed):
        at = _place("category", given, number)
        try:
            key = _key(ledger, at, given)
            name = _category_name(ledger, at, given)
            former = found.get(key)
            if former is None:
                found[key] = given if given.get("name") == name else {**given, "name": name}
            elif former["name"] == name:
                ledger.harmless(at, "category listed twice", "it is listed before")
            else:
                ledger.fatal.append(
                    f"the categories {former['name']!r} and {name!r} share the id {at.id!r}: whose "
                    "annotations are whose cannot be told; give one of them another id"
                )
        except Unusable:
            _note_lost(lost, given)
    # sorted, so that both splits number alike
    given_numbers = numbers(sorted(found, key=lambda key: (isinstance(key, str), key)))
    by_name: dict[str, int] = {}
    for key in sorted(found, key=lambda key: given_numbers[key]):
        first = by_name.setdefault(found[key]["name"], given_numbers[key])
        if first != given_numbers[key]:
            at = Place("category", key)
            reason = f"category {first} is {found[key]['name']!r} too; they become one"
            ledger.harmless(at, "categories share a name", reason)
            given_numbers[key] = first
    kept = {number: key for key, number in reversed(given_numbers.items())}
    entries = [
        _numbered(entry, given_numbers[key])
        for key, entry in found.items()
        if kept[given_numbers[key]] == key
    ]
    return entries, given_numbers, {key: why for key, why in lost.items() if key not in found}


def _category_name(ledger: Ledger, at: Place, given: Entry) -> str:
    name = given.get("name")
    if isinstance(name, str) and name and names.is_unicode(name):
        return name
    if isinstance(name, str) and name:
        instead = name.encode("utf-8", "replace").decode()
        reason = f"its name {names.brief(name)} is no text in UTF-8; it is called {instead!r}"
        ledger.repairable(at, "category name unusable", reason)
        return instead
    plain = isinstance(name, (int, float)) and not isinstance(name, bool)
    instead = names.brief(name if plain else f"category {at.id}").strip("'")
    reason = f"its name is {names.brief(name)}, must be a text; it is called {instead!r}"
    ledger.repairable(at, "category name unusable", reason)
    return instead


def _images(
    content: Mapping[str, Any],
    ledger: Ledger,
    look: Look | None,
    find: Find | None,
    scales: dict[int, tuple[float, float]],
) -> Table:
    found: dict[int | str, list[tuple[Place, Entry]]] = {}
    lost: dict[Any, str] = {}
    for number, given in enumerate(content["images"]):
        at = _place("image", given, number)
        try:
            key = _key(ledger, at, given)
            named = _named(ledger, at, given, find)
            found.setdefault(key, []).append((at, named))
        except Unusable:
            _note_lost(lost, given)
    lost = {key: why for key, why in lost.items() if key not in found}
    numbered = numbers(found)
    single = merging.single(found, lost, ledger)
    kept = [(at, _numbered(given, numbered[key])) for key, (at, given) in single.items()]
    kept = merging.of_one_file(kept, numbered, ledger)
    image_files = look([entry for _, entry in kept]) if look is not None else [None] * len(kept)
    masked = _Masked(content["annotations"])
    factors = [_factor(*both) for both in zip(kept, image_files, strict=True)]
    resized = rescaled.voted([other for other in factors if other], content["annotations"])
    sized, digests = [], []
    for (at, entry), image_file, other in zip(kept, image_files, factors, strict=True):
        try:
            if resized and other and image_file and rescaled.alike(other[2], resized):
                scale, entry = _resized(ledger, at, entry, image_file)
                scales[entry["id"]] = scale
            sized.append((at, _sized(ledger, at, entry, image_file, masked)))
            digests.append(image_file.digest if image_file is not None else None)
        except Unusable:
            lost[canonical(at.id)] = "image"
    images = merging.of_one_content(sized, digests, numbered, ledger)
    return images, {key: value for key, value in numbered.items() if key not in lost}, lost


def _named(ledger: Ledger, at: Place, given: Entry, find: Find | None) -> Entry:
    """The image with its file's own name."""
    name = given.get("file_name")
    if find is not None and isinstance(name, str):
        found = find(name)
        if found is not None and found != name:
            reason = f"its file_name is {name!r}, the file is {found!r}"
            ledger.harmless(at, "file_name in another writing", reason)
            return {**given, "file_name": found}
    _require_name(ledger, at, given)
    return given


def _require_name(ledger: Ledger, at: Place, given: Entry) -> None:
    name = given.get("file_name")
    if not isinstance(name, str) or not name:
        reason = f"its file_name is {names.brief(name)}, must be a text"
        ledger.lost(at, "file_name unusable", reason)
    if leaves_folder(name):
        reason = f"its file_name {name!r} leads out of the folder of images"
        ledger.lost(at, "path leaves the folder", reason)
    if (reason := names.problem(name)) is not None:
        ledger.lost(at, "file_name unusable", f"its file_name {names.brief(name)} {reason}")


class _Masked:
    """Which images have run-length masks; all annotations are looked through when first asked."""

    def __init__(self, annotations: Iterable[Any]) -> None:
        self._annotations = annotations
        self._found: set[Any] | None = None

    def __contains__(self, key: object) -> bool:
        if self._found is None:
            self._found = {
                canonical(entry.get("image_id"))
                for entry in self._annotations
                if isinstance(entry, dict) and isinstance(entry.get("segmentation"), dict)
            }
        return key in self._found


def _sized(
    ledger: Ledger, at: Place, entry: Entry, image_file: ImageFile | None, masked: _Masked
) -> Entry:
    """The image with the size of its file."""
    if image_file is not None and not image_file.sizes:
        ledger.lost(at, image_file.kind, image_file.reason)
    if image_file is not None and image_file.kind:
        ledger.note(at, image_file.kind, image_file.reason)
    stated: list[Any] = [entry.get("width"), entry.get("height")]
    whole: tuple[Any, ...] = tuple(
        int(v) if isinstance(v, float) and v.is_integer() else v for v in stated
    )
    usable = all(type(side) is int and 0 < side < 2**31 for side in whole)
    large = usable and whole[0] * whole[1] > PIXELS.value
    usable, shown = usable and not large, names.brief(stated, 80)
    if usable and (image_file is None or whole in image_file.sizes):
        if any(isinstance(v, float) for v in stated):
            reason = f"its width and height are {stated}, not whole numbers"
            ledger.harmless(at, "image size is a fraction", reason)
            return {**entry, "width": whole[0], "height": whole[1]}
        return entry
    if image_file is None:
        most = f" whose product is at most {PIXELS.value:,} ({PIXELS.variable})" if large else ""
        reason = f"its width and height are {shown}, must be whole numbers above 0{most}"
        ledger.lost(at, "image size unusable", reason)
    width, height = image_file.sizes[0]
    if not usable:
        reason = f"its width and height are {shown}, it is {width} x {height}"
        ledger.repairable(at, "image size unusable", reason)
        return {**entry, "width": width, "height": height}
    kind = "image of another size"
    reason = f"it is {width} x {height}, the annotations say {whole[0]} x {whole[1]}"
    if canonical(at.id) in masked:
        ledger.lost(at, kind, f"{reason}; run-length masks fit no other size")
    across, down = width / whole[0], height / whole[1]
    if abs(across / down - 1) < 0.02 and abs(across - 1) > 0.02:
        ledger.lost(at, kind, f"{reason}: it was resized, its annotations were not")
    ledger.repairable(at, kind, reason)
    return {**entry, "width": width, "height": height}


def _factor(
    kept: tuple[Place, Entry], image_file: ImageFile | None
) -> tuple[Any, tuple[int, int], float] | None:
    """Id, stated size and factor of an image whose file has another scale; None: it has not."""
    at, entry = kept
    width, height = entry.get("width"), entry.get("height")
    if image_file is None or type(width) is not int or type(height) is not int:
        return None
    found = rescaled.factor((width, height), image_file.sizes)
    return None if found is None else (canonical(at.id), (width, height), found)


def _resized(
    ledger: Ledger, at: Place, entry: Entry, image_file: ImageFile
) -> tuple[tuple[float, float], Entry]:
    """The scale of an image's annotations, and the image with its file's size."""
    width, height = image_file.sizes[0]
    across, down = width / entry["width"], height / entry["height"]
    reason = (
        f"it is {width} x {height}, the annotations are made for {entry['width']} x "
        f"{entry['height']}; they are scaled by {across:.4g}"
    )
    ledger.repairable(at, rescaled.KIND, reason)
    return (across, down), {**entry, "width": width, "height": height}


def _place(entry: str, given: object, number: int) -> Place:
    if not isinstance(given, dict):
        return Place(entry, f"#{number}")
    identity = given.get("id")
    name = given.get("file_name") if entry == "image" else None
    return Place(entry, f"#{number}" if identity is None else identity, name)


def _key(ledger: Ledger, at: Place, given: Any) -> int | str:
    if not isinstance(given, dict):
        ledger.lost(at, "no mapping", f"it is {str(given)[:60]!r}, no mapping")
    return check_id(ledger, at, given.get("id"))


def _note_lost(lost: dict[Any, str], given: Any) -> None:
    key = canonical(given.get("id")) if isinstance(given, dict) else None
    if key is not None:
        lost[key] = "faulty"


def _numbered(entry: Entry, number: int) -> Entry:
    return entry if type(entry["id"]) is int and entry["id"] == number else {**entry, "id": number}
