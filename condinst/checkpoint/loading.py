"""Load weights of any known origin into a model, and report what happened to every tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from condinst.checkpoint.architecture import (
    CLASS_LAYERS,
    OPTIONAL_PARTS,
    check_architecture,
)
from condinst.checkpoint.backbone_tables import BOTTOM_UP
from condinst.checkpoint.key_tables import TABLES, to_ours, why_ignorable
from condinst.checkpoint.reading import find_state, load_checkpoint
from condinst.checkpoint.recognise import backbone_to_ours, recognise
from condinst.checkpoint.report import LoadReport, Shape
from condinst.checkpoint.rows import Mapped
from condinst.checkpoint.zoo import resolve_weights
from condinst.modeling.mask_head.layout import HeadLayout


def load_weights(
    model: nn.Module, path: str | Path, *, strict: bool = False, partial: bool = False
) -> LoadReport:
    """Load a checkpoint file into a model.

    Checkpoints of ours, AdelaiDet and Epiphqny, and ImageNet backbones of detectron2, MSRA and
    torchvision are recognised by their tensor names. On error the model is left unchanged.

    Args:
        model: a model built by detectron2's ``build_model``.
        path: file, URL, zoo name or ``detectron2://`` path (see ``zoo.resolve_weights``).
        strict: raise unless every tensor fits.
        partial: load what fits even from another architecture.

    Returns:
        The fate of every tensor.

    Raises:
        CheckpointMismatch: the checkpoint has a different architecture, or ``strict`` is set and
        not everything fits.
        UserError: the file is missing, damaged or unsafe.
    """
    content = load_checkpoint(resolve_weights(path))
    return load_state(model, content, strict=strict, partial=partial)


def load_state(
    model: nn.Module, state: Mapping[str, object], *, strict: bool = False, partial: bool = False
) -> LoadReport:
    """Load an in-memory state dict, or a checkpoint's content, into a model.

    Args:
        model: a model built by detectron2's ``build_model``.
        state: tensors by name, bare or under "model" or "state_dict".
        strict: raise unless every tensor fits.
        partial: load what fits even from another architecture.

    Returns:
        The fate of every tensor.

    Raises:
        CheckpointMismatch: as in `load_weights`.
        UserError: there are no tensors.
    """
    tensors, key = find_state(state)
    others = [str(k) for k in state if k != key and (key is not None or k not in tensors)]
    tensors, notes = _strip_wrapper(tensors)
    if others:
        notes.append(f"also in the file, but not part of a model: {', '.join(others)}")
    wanted = model.state_dict()
    kind = _kind_for(tensors, wanted)
    mapped, ignored = _rename(tensors, kind, wanted, _layout_of(model))
    fitting, report = _match(mapped, wanted, kind, ignored, notes)
    check_architecture(report, wanted, strict=strict, partial=partial)
    with torch.no_grad():
        for name, tensor in fitting.items():
            wanted[name].copy_(tensor)
    return report


def _layout_of(model: nn.Module) -> HeadLayout | None:
    """Size of the model's dynamic mask head, or None if it has none."""
    return getattr(getattr(model, "mask_spec", None), "layout", None)


def _kind_for(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The checkpoint's kind; timm's own names are recognised by comparison with the model's."""
    kind = recognise(tensors)
    net = _backbone_prefix(wanted) + "net."
    inside = sum(net + name in wanted for name in tensors)
    return "timm-backbone" if inside > len(tensors) / 2 else kind


def _strip_wrapper(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Drop the prefix that DistributedDataParallel puts before every name."""
    if not all(name.startswith("module.") for name in tensors):
        return tensors, []
    stripped = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return stripped, ["the prefix 'module.' of a parallel wrapper was dropped from every name"]


def _rename(
    tensors: dict[str, Tensor], kind: str, wanted: Mapping[str, Tensor], head: HeadLayout | None
) -> tuple[Mapped, list[tuple[str, str]]]:
    if kind in TABLES:
        return to_ours(tensors, kind, head), []
    if kind.endswith("-backbone"):
        return backbone_to_ours(tensors, kind, _backbone_prefix(wanted))
    same: dict[str, tuple[str, ...]] = {name: (name,) for name in tensors}
    return Mapped(state=dict(tensors), sources=same), []


def _backbone_prefix(wanted: Iterable[str]) -> str:
    """Prefix of the model's bottom-up network; BiFPN wraps it once more than FPN."""
    wrapped = any(name.startswith(f"{BOTTOM_UP}backbone.") for name in wanted)
    return f"{BOTTOM_UP}backbone." if wrapped else BOTTOM_UP


def _match(
    mapped: Mapped,
    wanted: Mapping[str, Tensor],
    kind: str,
    ignored: list[tuple[str, str]],
    notes: list[str],
) -> tuple[dict[str, Tensor], LoadReport]:
    fitting: dict[str, Tensor] = {}
    ill_shaped, homeless = [], []
    for name, tensor in mapped.state.items():
        if name in wanted and wanted[name].shape == tensor.shape:
            fitting[name] = tensor
        elif name in wanted:
            ill_shaped.append((name, tuple(tensor.shape), tuple(wanted[name].shape)))
        else:
            homeless.extend(mapped.sources[name])
    unexpected = []
    for name in [*homeless, *mapped.rest]:
        reason = why_ignorable(name)
        if reason is None:
            unexpected.append(name)
        else:
            ignored.append((name, reason))
    missing = [name for name in wanted if name not in mapped.state]
    notes = [*notes, *_explain(kind, wanted, fitting, missing, ill_shaped)]
    return fitting, LoadReport(
        kind=kind,
        loaded=tuple(fitting),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        ill_shaped=tuple(ill_shaped),
        ignored=tuple(ignored),
        notes=tuple(notes),
    )


def _explain(
    kind: str,
    wanted: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
    missing: list[str],
    ill_shaped: list[tuple[str, Shape, Shape]],
) -> list[str]:
    notes = []
    casts = Counter((t.dtype, wanted[n].dtype) for n, t in fitting.items())
    for (old, new), count in casts.items():
        if old != new:
            notes.append(f"{count} tensors are {old} in the checkpoint and became {new}")
    for name, in_file, in_model in ill_shaped:
        if name.startswith(CLASS_LAYERS) and name.endswith(".bias"):
            notes.append(
                f"{name.removesuffix('.bias')} has {in_file[0]} classes in the checkpoint and "
                f"{in_model[0]} in the model: the class layer starts from its initial values"
            )
    if any(name.startswith(OPTIONAL_PARTS) for name in missing):
        notes.append("the auxiliary semantic head is not in the checkpoint: it starts from scratch")
    if kind == "torchvision-backbone":
        notes.append(
            "torchvision's networks expect RGB images scaled to [0, 1] and STRIDE_IN_1X1 False: "
            "set INPUT.FORMAT RGB, PIXEL_MEAN 123.675,116.28,103.53 and PIXEL_STD "
            "58.395,57.12,57.375"
        )
    if kind.endswith("-backbone"):
        notes.append("an ImageNet backbone: every other part keeps its initial values")
        means = [name for name in missing if name.endswith("norm.running_mean")]
        if any(name.replace("running_mean", "weight") in fitting for name in means):
            notes.append(
                "the file's norms are affine layers without running statistics: right for "
                "FrozenBN, which starts from mean 0 and variance 1, wrong for BN and SyncBN"
            )
    return notes
