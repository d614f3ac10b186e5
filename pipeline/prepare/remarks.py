"""What is worth knowing of a dataset as a whole, though nothing in it is faulty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Record = dict[str, Any]

_SHOWN = 8


def remarks(splits: Mapping[str, Record]) -> list[str]:
    """Sentences on crowd regions and classes.

    Args:
        splits: statistics of each split.
    """
    return [*_crowds(splits), *_classes(splits)]


def crowd_sentence(count: int, total: int) -> str:
    """What crowd regions mean, and what to do if they are none."""
    return (
        f"{count:,} of {total:,} annotations are crowd regions (iscrowd: 1), which are neither "
        "learned nor counted; if they are single objects, as CVAT and others export brush masks, "
        "set dataset.crowd: objects"
    )


def as_objects(entry: Any) -> Any:
    """An annotation that is no crowd region any more; others as they are."""
    flag = entry.get("iscrowd") if isinstance(entry, dict) else None
    return {**entry, "iscrowd": 0} if flag == 1 or flag == "1" else entry


def _crowds(splits: Mapping[str, Record]) -> Iterator[str]:
    for name, split in splits.items():
        if split["crowds"]:
            yield f"{name}: {crowd_sentence(split['crowds'], split['crowds'] + split['objects'])}"


def _classes(splits: Mapping[str, Record]) -> Iterator[str]:
    counts = {name: split["per_category"] for name, split in splits.items()}
    names = list(dict.fromkeys(name for found in counts.values() for name in found))
    nobody = [name for name in names if not any(found.get(name) for found in counts.values())]
    if "train" in counts and "val" in counts:
        train, val = counts["train"], counts["val"]
        alone = [f"{name} ({val[name]:,})" for name in names if val.get(name) and not train[name]]
        unmeasured = [name for name in names if train.get(name) and not val[name]]
        if alone:
            yield (
                f"val has objects of {_several(alone, 'class')} that train has none of: "
                f"{_few(alone)}; they cannot be learned and lower the mean AP, so evaluate also "
                "gives AP over the others"
            )
        if unmeasured:
            yield (
                f"train has objects of {_several(unmeasured, 'class')} that val has none of: "
                f"{_few(unmeasured)}; what is learned of them is not measured"
            )
    if nobody:
        yield (
            f"{_several(nobody, 'class')} without any object: {_few(nobody)}; "
            f"dataset.classes: {{{nobody[0]}: null}} leaves one out"
        )


def _several(found: list[str], word: str) -> str:
    return f"{len(found):,} {word}{'es' if len(found) != 1 else ''}"


def _few(found: Iterable[str]) -> str:
    listed = list(found)
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
