"""Expanding a study's grid: every combination of its axes is a variant."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.params import schema
from pipeline.params.schema import KeyFault
from pipeline.params.sections import Ablation

MOST_TRAININGS = 500  # of one study
Level = tuple[str, Mapping[str, Any]]  # its name and its changes


def expand(study: Ablation, key: str, faults: list[KeyFault]) -> Ablation:
    """The study with its grid's combinations added to the variants, and no grid.

    An axis is a mapping of names to changes (``loss: {upsampled: {...}, plain: {...}}``), or a key
    with a list of values (``MODEL.CONDINST.UPSAMPLING: [aligned, plain]``).

    Args:
        study: as read.
        key: its dotted key.
        faults: faults are appended here.
    """
    asked, axes, place = len(study.variants), {}, f"{key}.grid"
    if study.grid is not None:
        axes = {name: _levels(name, axis, place, faults) for name, axis in study.grid.items()}
        if not axes:
            faults.append(KeyFault(place, "is empty; give at least one axis, or leave it out"))
        asked += math.prod(len(levels) for levels in axes.values())
    number = asked * max(1, len(study.seeds))
    if number > MOST_TRAININGS:
        words = f"asks for {asked:,} variants x {len(study.seeds)} seeds = {number:,} trainings"
        most = f"at most {MOST_TRAININGS} in one study; take fewer values"
        faults.append(KeyFault(key, f"{words}, {most}"))
        return dataclasses.replace(study, grid=None)
    variants = dict(study.variants)
    for combination in itertools.product(*axes.values()) if all(axes.values()) and axes else ():
        name, changes = _combined(combination, place, faults)
        if name in variants:
            faults.append(KeyFault(place, f"makes variant {name}, which already exists"))
        variants[name] = changes
    return dataclasses.replace(study, grid=None, variants=variants)


def _levels(name: str, axis: object, key: str, faults: list[KeyFault]) -> list[Level]:
    dotted = schema.join(key, name)
    if isinstance(axis, list) and axis:
        last = name.rpartition(".")[2].lower()
        words = [value if isinstance(value, str) else f"{last}-{value}" for value in axis]
        return [
            (re.sub(r"[^A-Za-z0-9_-]+", "_", word).strip("_"), {name: value})
            for word, value in zip(words, axis, strict=True)
        ]
    if isinstance(axis, dict) and axis and all(isinstance(one, dict) for one in axis.values()):
        return [(str(level), changes) for level, changes in axis.items()]
    faults.append(
        KeyFault(
            dotted,
            f"is {schema.show(axis)}, must be a list of values of that key, or names with their "
            "changes, e.g. {stride8: {MODEL.CONDINST.MASK_OUT_STRIDE: 8}}",
        )
    )
    return []


def _combined(
    combination: tuple[Level, ...], key: str, faults: list[KeyFault]
) -> tuple[str, dict[str, Any]]:
    changes: dict[str, Any] = {}
    for _, own in combination:
        for twice in set(own) & set(changes):
            fault = KeyFault(key, f"sets {twice} on two axes; use each key on one axis only")
            if fault not in faults:
                faults.append(fault)
        changes |= own
    return "-".join(name for name, _ in combination), changes
