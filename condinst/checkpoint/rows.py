"""Rows of key tables: each knows the names of one group of tensors here and in a peer.

A table is a list of rows. Each row moves the tensors it knows from one state dict to another and
leaves the rest alone, so what no row claimed remains visible at the end. Rows work in both
directions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from condinst.checkpoint.head_order import epiphqny_rows, infer_head_size
from condinst.modeling.mask_head.layout import HeadLayout

State = dict[str, Tensor]


@dataclass
class Mapped:
    """A renamed state dict.

    Attributes:
        state: tensors under their new names.
        sources: new name -> the names it was made from.
        rest: tensors that no row knows, under their old names.
        names: all old names, moved or not.
    """

    state: State = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rest: State = field(default_factory=dict)
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Remember the old names."""
        self.names = frozenset(self.rest)

    def put(self, name: str, tensor: Tensor, *sources: str) -> None:
        """Store one renamed tensor."""
        assert name not in self.state, f"two tensors want the name {name}"
        self.state[name] = tensor
        self.sources[name] = sources


class Row(Protocol):
    """One row of a key table; both methods remove what they know from ``rest``."""

    def to_ours(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """Move tensors with the peer's names in ``mapped.rest`` to ours in ``mapped.state``."""
        ...

    def to_peer(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """Move tensors with our names in ``mapped.rest`` to the peer's in ``mapped.state``."""
        ...


@dataclass(frozen=True)
class Prefix:
    """Everything below one module keeps its name; only the module's own name differs."""

    peer: str
    ours: str

    def to_ours(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        _move_prefix(mapped, self.peer, self.ours)

    def to_peer(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        _move_prefix(mapped, self.ours, self.peer)


@dataclass(frozen=True)
class Template:
    """Names that differ in their pattern; ``{i}`` stands for a number, ``{i+1}`` for one more.

    Both templates match the start of names; what follows is kept. With ``only_if``, a tensor is
    moved only where our state dict has that name as well.
    """

    peer: str
    ours: str
    only_if: str | None = None

    def to_ours(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        self._move(mapped, self.peer, self.ours, None)

    def to_peer(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        self._move(mapped, self.ours, self.peer, self.only_if)

    @staticmethod
    def _move(mapped: Mapped, old: str, new: str, only_if: str | None) -> None:
        pattern = _template_pattern(old)
        for name in list(mapped.rest):
            numbers = _template_numbers(pattern, name)
            if numbers is None or (only_if and _fill(only_if, numbers) not in mapped.names):
                continue
            rest = name[len(_fill(old, numbers)) :]
            mapped.put(_fill(new, numbers) + rest, mapped.rest.pop(name), name)


@dataclass(frozen=True)
class StackedScales:
    """One scale per level: (1,) each in the peer, one vector (L,) here."""

    peer: str  # with {} for the level
    ours: str

    def to_ours(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        pattern = re.compile(re.escape(self.peer).replace(r"\{\}", r"\d+"))
        found = [n for n in mapped.rest if pattern.fullmatch(n)]
        names = [self.peer.format(level) for level in range(len(found))]
        if set(names) != set(found):
            return  # a level is missing: left in the rest, where the report names them
        if names:
            scales = torch.cat([mapped.rest.pop(n).reshape(1) for n in names])
            mapped.put(self.ours, scales, *names)

    def to_peer(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        scales = mapped.rest.pop(self.ours, None)
        for level, scale in enumerate(() if scales is None else scales):
            mapped.put(self.peer.format(level), scale.reshape(1).clone(), self.ours)


@dataclass(frozen=True)
class FlatTower:
    """A flat sequence of (conv, norm, ReLU) in the peer; a list of blocks and a last conv here.

    The step between two convolutions is 3 with a norm and 2 without one.
    """

    peer: str
    peer_last: str
    ours: str

    def to_ours(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        pattern = re.compile(re.escape(self.peer) + r"\.(\d+)\.(\w+)")
        found = {name: m for name in mapped.rest if (m := pattern.fullmatch(name))}
        step = _tower_step({int(m[1]) for m in found.values()})
        for name, m in found.items():
            block, part = divmod(int(m[1]), step)
            mapped.put(f"{self.ours}.{block}.{part}.{m[2]}", mapped.rest.pop(name), name)
        blocks = len({int(m[1]) // step for m in found.values()})
        _move_prefix(mapped, f"{self.peer_last}.", f"{self.ours}.{blocks}.")

    def to_peer(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        pattern = re.compile(re.escape(self.ours) + r"\.(\d+)\.([01])\.(\w+)")
        found = {name: m for name in mapped.rest if (m := pattern.fullmatch(name))}
        step = 3 if any(m[2] == "1" for m in found.values()) else 2
        for name, m in found.items():
            index = step * int(m[1]) + int(m[2])
            mapped.put(f"{self.peer}.{index}.{m[3]}", mapped.rest.pop(name), name)
        blocks = len({m[1] for m in found.values()})
        _move_prefix(mapped, f"{self.ours}.{blocks}.", f"{self.peer_last}.")


@dataclass(frozen=True)
class Controller:
    """The controller, whose rows Epiphqny orders differently (see ``head_order``)."""

    peer: str
    ours: str
    peer_features: str  # a weight whose rows are the mask features
    ours_features: str  # the same as a pattern over our names

    def to_ours(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        last = mapped.rest.get(self.peer_features)
        self._move(mapped, self.peer, self.ours, last, head, back=False)

    def to_peer(self, mapped: Mapped, head: HeadLayout | None) -> None:
        """See `Row`."""
        pattern = re.compile(self.ours_features)
        last = next((t for n, t in mapped.rest.items() if pattern.fullmatch(n)), None)
        self._move(mapped, self.ours, self.peer, last, head, back=True)

    @staticmethod
    def _move(
        mapped: Mapped,
        old: str,
        new: str,
        last: Tensor | None,
        head: HeadLayout | None,
        *,
        back: bool,
    ) -> None:
        for part in ("weight", "bias"):
            tensor = mapped.rest.get(f"{old}.{part}")
            if tensor is None:
                continue
            if head is None or head.num_params != len(tensor):
                if last is None:
                    return  # without the mask branch the order is unknown: left in the rest
                head = infer_head_size(len(tensor), len(last))
            rows = epiphqny_rows(head)
            rows = rows.argsort() if back else rows
            mapped.put(f"{new}.{part}", mapped.rest.pop(f"{old}.{part}")[rows], f"{old}.{part}")


def _move_prefix(mapped: Mapped, old: str, new: str) -> None:
    for name in [n for n in mapped.rest if n.startswith(old)]:
        mapped.put(new + name.removeprefix(old), mapped.rest.pop(name), name)


_NUMBER = re.compile(r"\{(\w)(?:\+(\d+))?\}")


@cache
def _template_pattern(template: str) -> re.Pattern[str]:
    """A regex with a group named like ``i_1_0`` (letter, offset, place) for each number."""
    pieces, end = [], 0
    for place, m in enumerate(_NUMBER.finditer(template)):
        pieces += [re.escape(template[end : m.start()]), rf"(?P<{m[1]}_{m[2] or 0}_{place}>\d+)"]
        end = m.end()
    return re.compile("".join([*pieces, re.escape(template[end:])]))


def _template_numbers(pattern: re.Pattern[str], name: str) -> dict[str, int] | None:
    """The numbers in a name, or None if it does not match or contradicts itself."""
    m = pattern.match(name)
    if m is None:
        return None
    numbers: dict[str, int] = {}
    for group, text in m.groupdict().items():
        letter, offset, _ = group.split("_")
        if numbers.setdefault(letter, int(text) - int(offset)) != int(text) - int(offset):
            return None
    return numbers if all(n >= 0 for n in numbers.values()) else None


def _fill(template: str, numbers: dict[str, int]) -> str:
    return _NUMBER.sub(lambda m: str(numbers[m[1]] + int(m[2] or 0)), template)


def _tower_step(indices: set[int]) -> int:
    """Distance between two convolutions in a flat tower: with a norm, index 1 is taken."""
    return 3 if 1 in indices else 2
