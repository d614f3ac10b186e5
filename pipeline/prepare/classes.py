"""Classes merged, renamed or left out, as `dataset.classes` asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condinst.errors import UserError
from pipeline.params import schema

Record = dict[str, Any]


def change(content: Record, wanted: Mapping[str, str | None]) -> tuple[Record, int]:
    """A COCO content with other classes.

    Classes that get the same name become one, under the least of their ids; classes that are not
    named stay as they are.

    Args:
        content: sound, with images, annotations and categories; left as it is.
        wanted: name in the data to new name, or to None: its annotations are left out.

    Returns:
        The content, and how many annotations were left out.

    Raises:
        UserError: a name is in no category, or no class is left.
    """
    if not wanted:
        return content, 0
    from condinst.annotations.json_lists import edit

    names = [entry["name"] for entry in content["categories"]]
    for name in wanted:
        if name not in names:
            near = schema.nearest(name, names)
            raise UserError(
                f"dataset.classes.{name}: the data has no such class{near}; it has "
                f"{', '.join(sorted(names))}"
            )
    kept: dict[str, Record] = {}
    numbers: dict[Any, Any] = {}
    for entry in sorted(content["categories"], key=lambda entry: entry["id"]):
        name = wanted.get(entry["name"], entry["name"])
        if name is not None:
            first = kept.setdefault(name, {**entry, "name": name})
            numbers[entry["id"]] = first["id"]
    if not kept:
        raise UserError("dataset.classes leaves out every class; keep at least one")

    def changed(entry: Record) -> Record | None:
        number = numbers.get(entry["category_id"])
        same = number == entry["category_id"]
        return entry if same else None if number is None else {**entry, "category_id": number}

    annotations = edit(content["annotations"], changed)
    left_out = len(content["annotations"]) - len(annotations)
    return {**content, "categories": list(kept.values()), "annotations": annotations}, left_out
