"""Names of the same tensor here and in the two public implementations, usable in both directions.

A table is a list of rows. Each row moves what it knows from one state dict to another and leaves
the rest alone, so what no row claimed remains visible at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from condinst.checkpoint.head_order import HeadSize, epiphqny_rows, infer_head_size

State = dict[str, Tensor]


@dataclass
class Mapped:
    """A renamed state dict.

    Attributes:
        state: tensors under their new names.
        sources: new name -> the names it was made from.
        rest: tensors that no row knows, under their old names.
    """

    state: State = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rest: State = field(default_factory=dict)

    def put(self, name: str, tensor: Tensor, *sources: str) -> None:
        """Store one renamed tensor."""
        assert name not in self.state, f"two tensors want the name {name}"
        self.state[name] = tensor
        self.sources[name] = sources


class Row(Protocol):
    """One line of a key table; both methods take what they know out of ``rest``."""

    def to_ours(self, mapped: Mapped, head: HeadSize | None) -> None:
        """Move tensors with the peer's names in ``mapped.rest`` to ours in ``mapped.state``."""
        ...

    def to_peer(self, mapped: Mapped, head: HeadSize | None) -> None:
        """Move tensors with our names in ``mapped.rest`` to the peer's in ``mapped.state``."""
        ...


@dataclass(frozen=True)
class Prefix:
    """Everything below one module keeps its name; only the module's own name differs."""

    peer: str
    ours: str

    def to_ours(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        _move_prefix(mapped, self.peer, self.ours)

    def to_peer(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        _move_prefix(mapped, self.ours, self.peer)


@dataclass(frozen=True)
class StackedScales:
    """One scale a level, (1,) each at the peer's; one vector (L,) here."""

    peer: str  # with {} for the level
    ours: str

    def to_ours(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        names: list[str] = []
        while self.peer.format(len(names)) in mapped.rest:
            names.append(self.peer.format(len(names)))
        if names:
            scales = torch.cat([mapped.rest.pop(n).reshape(1) for n in names])
            mapped.put(self.ours, scales, *names)

    def to_peer(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        scales = mapped.rest.pop(self.ours, None)
        for level, scale in enumerate(() if scales is None else scales):
            mapped.put(self.peer.format(level), scale.reshape(1).clone(), self.ours)


@dataclass(frozen=True)
class FlatTower:
    """A flat run of (conv, norm, ReLU) at the peer's; a list of blocks and a last conv here.

    The step between two convolutions is 3 with a norm and 2 without one.
    """

    peer: str
    peer_last: str
    ours: str

    def to_ours(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        pattern = re.compile(re.escape(self.peer) + r"\.(\d+)\.(\w+)")
        found = {name: m for name in mapped.rest if (m := pattern.fullmatch(name))}
        step = _tower_step({int(m[1]) for m in found.values()})
        for name, m in found.items():
            block, part = divmod(int(m[1]), step)
            mapped.put(f"{self.ours}.{block}.{part}.{m[2]}", mapped.rest.pop(name), name)
        blocks = len({int(m[1]) // step for m in found.values()})
        _move_prefix(mapped, f"{self.peer_last}.", f"{self.ours}.{blocks}.")

    def to_peer(self, mapped: Mapped, head: HeadSize | None) -> None:
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

    def to_ours(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        last = mapped.rest.get(self.peer_features)
        self._move(mapped, self.peer, self.ours, last, head, back=False)

    def to_peer(self, mapped: Mapped, head: HeadSize | None) -> None:
        """See `Row`."""
        pattern = re.compile(self.ours_features)
        last = next((t for n, t in mapped.rest.items() if pattern.fullmatch(n)), None)
        self._move(mapped, self.ours, self.peer, last, head, back=True)

    @staticmethod
    def _move(
        mapped: Mapped, old: str, new: str, last: Tensor | None, head: HeadSize | None, *, back: bool
    ) -> None:
        for part in ("weight", "bias"):
            tensor = mapped.rest.get(f"{old}.{part}")
            if tensor is None:
                continue
            if head is None or head.count() != len(tensor):
                if last is None:
                    return  # without the mask branch the order is unknown: left in the rest
                head = infer_head_size(len(tensor), len(last))
            rows = epiphqny_rows(head)
            rows = rows.argsort() if back else rows
            mapped.put(f"{new}.{part}", mapped.rest.pop(f"{old}.{part}")[rows], f"{old}.{part}")


def _move_prefix(mapped: Mapped, old: str, new: str) -> None:
    for name in [n for n in mapped.rest if n.startswith(old)]:
        mapped.put(new + name.removeprefix(old), mapped.rest.pop(name), name)


def _tower_step(indices: set[int]) -> int:
    """Distance of two convolutions in a flat tower: with a norm its index 1 is taken."""
    return 3 if 1 in indices else 2


_HEAD = "proposal_generator.fcos_head."
_FCOS_PARTS = ("share_tower", "cls_tower", "bbox_tower", "cls_logits", "bbox_pred", "ctrness")
_FCOS: tuple[Row, ...] = (
    *(Prefix(f"{_HEAD}{part}.", f"fcos_head.{part}.") for part in _FCOS_PARTS),
    StackedScales(_HEAD + "scales.{}.scale", "fcos_head.scales"),
)

ADELAIDET: tuple[Row, ...] = (
    Prefix("backbone.", "backbone."),
    *_FCOS,
    Prefix("controller.", "controller."),
    Prefix("mask_branch.refine.", "mask_branch.refine."),
    Prefix("mask_branch.tower.", "mask_branch.tower."),
    Prefix("mask_branch.seg_head.", "semantic_head.tower."),
    Prefix("mask_branch.logits.", "semantic_head.logits."),
)

EPIPHQNY: tuple[Row, ...] = (
    Prefix("backbone.", "backbone."),
    *_FCOS,
    Controller(
        f"{_HEAD}controller", "controller", f"{_HEAD}mask.weight", r"mask_branch\.tower\.\d+\.weight"
    ),
    FlatTower(f"{_HEAD}mask_tower", f"{_HEAD}mask", "mask_branch.tower"),
)

TABLES: dict[str, tuple[Row, ...]] = {"adelaidet": ADELAIDET, "epiphqny": EPIPHQNY}

# Tensors that hold no learnt value here, and why they may be left out.
IGNORABLE: dict[str, str] = {
    "mask_head.sizes_of_interest": "a constant of the recipe, read from the config here",
    "mask_head._iter": "AdelaiDet's count of training steps, used by BoxInst's warm-up only",
}


def to_ours(state: Mapping[str, Tensor], kind: str, head: HeadSize | None = None) -> Mapped:
    """Rename a peer's state dict to our names.

    Args:
        state: the peer's tensors by name.
        kind: a key of `TABLES`.
        head: size of the mask head; inferred from shapes when None.

    Returns:
        The renamed tensors, their origin, and what has no place here.
    """
    mapped = Mapped(rest=dict(state))
    for row in TABLES[kind]:
        row.to_ours(mapped, head)
    return mapped


def to_peer(state: Mapping[str, Tensor], kind: str, head: HeadSize | None = None) -> Mapped:
    """Rename our state dict to a peer's names; the reverse of `to_ours`."""
    mapped = Mapped(rest=dict(state))
    for row in TABLES[kind]:
        row.to_peer(mapped, head)
    return mapped
