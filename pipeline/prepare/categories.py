"""Both splits must number the same categories alike."""

from __future__ import annotations

from typing import Any

from pipeline.prepare.findings import Findings

_SHOWN = 8

Record = dict[str, Any]


def agree(checked: dict[str, Record], policy: str, found: Findings) -> None:
    """Make sure that splits list the same ids and names; `repair` renumbers them by name.

    Args:
        checked: contents, changed in place.
        policy: ``strict``, ``repair`` or ``drop``.
        found: gets what was wrong.
    """
    empty = [split for split, content in checked.items() if not content["categories"]]
    if empty:
        found.fatal.append(
            f"the annotations of {' and '.join(empty)} list no category that can be used; there is "
            "nothing to learn"
        )
        return
    lists = {
        split: {entry["name"]: entry["id"] for entry in content["categories"]}
        for split, content in checked.items()
    }
    (first, expected), *rest = lists.items()
    differing = {split: named for split, named in rest if named != expected}
    if not differing:
        return
    if policy == "drop":
        for other, named in differing.items():
            unlike = sorted(f"{name} ({k})" for name, k in named.items() ^ expected.items())
            found.fatal.append(
                f"{first} and {other} list different categories, e.g. "
                f"{', '.join(unlike[:_SHOWN])}; give both the same ids and names, or set "
                "prepare.policy: repair to number them by name"
            )
        return
    target = _united(list(lists.values()))
    for split, content in checked.items():
        checked[split] = _renumbered(split, content, target, policy, found)


def _united(lists: list[dict[str, int]]) -> dict[str, int]:
    """One id a name: the first list's, then others' own, or the next that is free."""
    target: dict[str, int] = {}
    for named in lists:
        for name, number in named.items():
            if name not in target:
                taken = number in target.values()
                target[name] = max(target.values()) + 1 if taken else number
    return target


def _renumbered(
    split: str, content: Record, target: dict[str, int], policy: str, found: Findings
) -> Record:
    from condinst.annotations.faults import Fault
    from condinst.annotations.json_lists import edit

    action = "refused" if policy == "strict" else "repaired"
    numbers, categories = {}, []
    for entry in content["categories"]:
        numbers[entry["id"]] = target[entry["name"]]
        categories.append({**entry, "id": target[entry["name"]]})
        if entry["id"] != target[entry["name"]]:
            reason = f"{entry['name']!r} is {target[entry['name']]} in the other split"
            fault = Fault("category", entry["id"], None, "splits disagree", reason, action)
            found.faults[split].append(fault)
    known = {entry["name"] for entry in categories}
    for name, number in target.items():
        if name not in known:
            categories.append({"id": number, "name": name})
            reason = f"{name!r} is listed in the other split alone"
            fault = Fault("category", number, None, "splits disagree", reason, action)
            found.faults[split].append(fault)

    def moved(entry: Record) -> Record:
        number = numbers[entry["category_id"]]
        return entry if number == entry["category_id"] else {**entry, "category_id": number}

    annotations = edit(content["annotations"], moved)
    return {**content, "categories": categories, "annotations": annotations}
