"""Names of the same tensor here and in the two public implementations, as data.

A tensor belongs to the first row that matches it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from condinst.checkpoint.backbone_tables import BACKBONES
from condinst.checkpoint.rows import Controller, FlatTower, Mapped, Prefix, Row, StackedScales
from condinst.modeling.mask_head.layout import HeadLayout

_HEAD = "proposal_generator.fcos_head."
_FCOS_PARTS = ("share_tower", "cls_tower", "bbox_tower", "cls_logits", "bbox_pred", "ctrness")
_FCOS: tuple[Row, ...] = (
    *(Prefix(f"{_HEAD}{part}.", f"fcos_head.{part}.") for part in _FCOS_PARTS),
    StackedScales(_HEAD + "scales.{}.scale", "fcos_head.scales"),
)

ADELAIDET: tuple[Row, ...] = (
    *BACKBONES,
    Prefix("backbone.", "backbone."),
    *_FCOS,
    Prefix("controller.", "controller."),
    Prefix("mask_head._iter", "mask_head._iter"),
    Prefix("mask_branch.refine.", "mask_branch.refine."),
    Prefix("mask_branch.tower.", "mask_branch.tower."),
    Prefix("mask_branch.seg_head.", "semantic_head.tower."),
    Prefix("mask_branch.logits.", "semantic_head.logits."),
)

EPIPHQNY: tuple[Row, ...] = (
    *BACKBONES,
    Prefix("backbone.", "backbone."),
    *_FCOS,
    Controller(
        f"{_HEAD}controller",
        "controller",
        f"{_HEAD}mask.weight",
        r"mask_branch\.tower\.\d+\.weight",
    ),
    FlatTower(f"{_HEAD}mask_tower", f"{_HEAD}mask", "mask_branch.tower"),
)

TABLES: dict[str, tuple[Row, ...]] = {"adelaidet": ADELAIDET, "epiphqny": EPIPHQNY}

# Names of tensors that are of no use here, and why they may be left out.
IGNORABLE: tuple[tuple[str, str], ...] = (
    (r"mask_head\.sizes_of_interest", "a constant of the recipe, read from the config here"),
    (r"mask_head\._iter", "the count of training steps, for BoxInst's warm-up only"),
    (r"pixel_(mean|std)", "a constant of the recipe, read from the config here"),
    (r".*\blevel\d\.project\..*", "part of an outer tree of DLA, which never uses it"),
    (r".*\.num_batches_tracked", "a count of steps that this model's norm does not keep"),
)


def why_ignorable(name: str) -> str | None:
    """Why a tensor that the model does not have may be left out, or None.

    Args:
        name: its name in the file.
    """
    return next((reason for pattern, reason in IGNORABLE if re.fullmatch(pattern, name)), None)


def to_ours(state: Mapping[str, Tensor], kind: str, head: HeadLayout | None = None) -> Mapped:
    """Rename a peer's state dict to our names.

    Args:
        state: the peer's tensors by name.
        kind: a key of `TABLES`.
        head: size of the mask head; inferred from shapes when None.

    Returns:
        The renamed tensors, their origin, and what has no counterpart here.
    """
    mapped = Mapped(rest=dict(state))
    for row in TABLES[kind]:
        row.to_ours(mapped, head)
    return mapped


def to_peer(state: Mapping[str, Tensor], kind: str, head: HeadLayout | None = None) -> Mapped:
    """Rename our state dict to a peer's names; the reverse of `to_ours`."""
    mapped = Mapped(rest=dict(state))
    for row in TABLES[kind]:
        row.to_peer(mapped, head)
    return mapped
