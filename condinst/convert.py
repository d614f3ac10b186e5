"""Rewrite a checkpoint under another project's names, so that converting back is the identity.

What has no counterpart in the target (buffers, optimizer, iteration, order and container of the
state dict) is kept in the new file as a record of its origin, and restored on the way back.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condinst.atomic import atomic_file
from condinst.checkpoint.key_tables import TABLES, to_ours, to_peer, why_ignorable
from condinst.checkpoint.reading import find_state, load_checkpoint
from condinst.checkpoint.recognise import recognise
from condinst.checkpoint.report import KIND_NAMES
from condinst.config import load_config
from condinst.errors import UserError
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.spec import MaskHeadSpec

KINDS = ("condinst", *TABLES)
_FEATURE_STRIDE = 8  # of the mask features; a head's size does not depend on it
_ORIGIN = "condinst_origin"  # where a peer's file keeps the record of its origin
_TRAINING_STATE = frozenset(
    {"optimizer", "scheduler", "lr_scheduler", "grad_scaler", "iteration", "hooks", "_trainer"}
)


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        source: kind of the file read.
        target: kind of the file written.
        tensors: number of tensors written under the target's names.
        kept: what was kept without a counterpart in the target.
        stripped: top-level entries that were left out.
        restored: whether the file was converted back to its origin.
    """

    source: str
    target: str
    tensors: int
    kept: tuple[str, ...]
    stripped: tuple[str, ...]
    restored: bool

    def __str__(self) -> str:
        """One line, and one more for each thing kept or stripped."""
        back = " (restored from its record)" if self.restored else ""
        first = f"{KIND_NAMES[self.source]} -> {KIND_NAMES[self.target]}: {self.tensors} tensors"
        lines = [first + back, *(f"  kept aside  {name}" for name in self.kept)]
        return "\n".join([*lines, *(f"  stripped    {name}" for name in self.stripped)])


def convert(
    src: str | Path,
    dst: str | Path,
    source: str = "auto",
    target: str = "condinst",
    strip_optimizer: bool = False,
    *,
    config_file: str | Path | None = None,
) -> Conversion:
    """Convert a checkpoint file.

    Args:
        src: file to read.
        dst: file to write; replaced only when the new one is complete.
        source: "condinst", "adelaidet", "epiphqny", or "auto" to recognise it.
        target: one of the same names.
        strip_optimizer: leave out optimizer, schedule and iteration.
        config_file: recipe of the weights, needed if shapes alone do not tell the size of the mask
            head, on which Epiphqny's order depends.

    Returns:
        What was done.

    Raises:
        UserError: unknown names, an unreadable or unrecognised file, or an architecture that
            the target does not have.
    """
    if target not in KINDS or source not in ("auto", *KINDS):
        raise UserError(f"cannot convert from {source!r} to {target!r}: use {', '.join(KINDS)}")
    head = None
    if config_file is not None:
        head = MaskHeadSpec.from_config(load_config(config_file, []), _FEATURE_STRIDE).layout
    content = load_checkpoint(src)
    tensors, key = find_state(content)
    kind = _source_kind(tensors, source, src)
    stripped: tuple[str, ...] = ()
    if strip_optimizer:
        content, stripped = _strip(content, kind)
    origin = _origin_of(content, kind)
    restored = kind != target and origin is not None and origin["kind"] == target
    kept: tuple[str, ...] = ()
    if kind == target:
        new: Mapping[str, Any] = content
    elif restored:
        assert origin is not None
        new = _restore(tensors, kind, origin, head)
    else:
        new, kept = _forward(content, tensors, key, kind, target, head)
    _write(new, Path(dst))
    count = len(find_state(new)[0])
    return Conversion(kind, target, count, kept, stripped, restored)


def _strip(content: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Remove training state, also from the records of earlier conversions."""
    new: dict[str, Any] = OrderedDict() if isinstance(content, OrderedDict) else {}
    new.update((k, v) for k, v in content.items() if k not in _TRAINING_STATE)
    stripped = tuple(k for k in content if k in _TRAINING_STATE)
    origin = _origin_of(new, kind)
    if origin is not None:
        top, inner = _strip(origin["top"], origin["kind"])
        stripped += tuple(f"origin.{name}" for name in inner)
        origin = {**origin, "top": top}
        if kind == "condinst":
            new["meta"] = {**new["meta"], "origin": origin}
        else:
            new[_ORIGIN] = origin
    return new, stripped


def _source_kind(tensors: Mapping[str, Tensor], source: str, src: str | Path) -> str:
    kind = recognise(tensors)
    if kind not in KINDS:
        raise UserError(
            f"{src} is not a CondInst checkpoint ({KIND_NAMES[kind]}; its names begin with "
            f"{sorted({n.split('.')[0] for n in tensors})[:8]}): expected {', '.join(KINDS)}"
        )
    if source not in ("auto", kind):
        raise UserError(f"{src} is a checkpoint of {kind}, not of {source}: use --from auto")
    return kind


def _origin_of(content: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The record that an earlier conversion left."""
    if kind == "condinst":
        meta = content.get("meta")
        return meta.get("origin") if isinstance(meta, Mapping) else None
    return content.get(_ORIGIN)


def _rename(
    tensors: Mapping[str, Tensor], kind: str, target: str, head: HeadLayout | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors under the target's names, and those without a counterpart there."""
    state, rest = dict(tensors), {}
    if kind != "condinst":
        mapped = to_ours(state, kind, head)
        state, rest = mapped.state, mapped.rest
    if target == "condinst":
        return state, rest
    mapped = to_peer(state, target, head)
    homeless = [*mapped.rest, *(n for n in mapped.state if ".bottom_up.net." in n)]
    refine = any(n.startswith("mask_branch.refine.") for n in mapped.state)
    if target == "adelaidet" and not refine:
        homeless += [n for n in mapped.state if n.startswith("mask_branch.tower.")]
    if homeless:
        raise UserError(
            f"{KIND_NAMES[target]} has no counterpart for {len(homeless)} tensors of this "
            f"checkpoint, among them {', '.join(homeless[:3])}: its architecture is different"
        )
    return mapped.state, rest


def _forward(
    content: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    key: str | None,
    kind: str,
    target: str,
    head: HeadLayout | None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write for the target and keep everything else as a record of the origin."""
    state, rest = _rename(tensors, kind, target, head)
    container = content if key is None else content[key]
    moved = set(tensors) if key is None else {key}
    origin = {
        "kind": kind,
        "key": key,
        "keys": list(content),
        "order": list(tensors),
        "ordered": isinstance(container, OrderedDict),
        "metadata": getattr(container, "_metadata", None),
        "rest": rest,
        "top": {k: v for k, v in content.items() if k not in moved},
    }
    kept = (*(f"{n} ({why_ignorable(n) or 'unknown tensor'})" for n in rest), *origin["top"])
    if target == "condinst":
        return {"model": state, "meta": {"origin": origin}}, kept
    return {"model": state, _ORIGIN: origin}, kept


def _restore(
    tensors: Mapping[str, Tensor], kind: str, origin: Mapping[str, Any], head: HeadLayout | None
) -> Mapping[str, Any]:
    """Rebuild the file that the record describes, with the current tensors' values."""
    state, rest = _rename(tensors, kind, origin["kind"], head)
    state = {**state, **origin["rest"], **rest}
    key, top = origin["key"], origin["top"]
    values = state if key is not None else {**state, **top}
    order = origin["order"] if key is not None else origin["keys"]
    container: dict[str, Any] = OrderedDict() if origin["ordered"] else {}
    container.update((n, values[n]) for n in order if n in values)
    container.update((n, v) for n, v in values.items() if n not in container)
    if origin["metadata"] is not None:
        vars(container)["_metadata"] = origin["metadata"]  # where torch keeps modules' versions
    if key is None:
        return container
    entries = {key: container, **top}
    return {k: entries[k] for k in origin["keys"] if k in entries}


def _write(content: Mapping[str, Any], dst: Path) -> None:
    with atomic_file(dst) as partial, partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
