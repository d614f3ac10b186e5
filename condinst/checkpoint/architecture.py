"""Check whether a checkpoint belongs to a model, and report which parts fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from condinst.checkpoint.report import KIND_NAMES, CheckpointMismatch, LoadReport

# Layers with one row per class: fine-tuning on other classes starts them from scratch.
CLASS_LAYERS = ("fcos_head.cls_logits.", "semantic_head.logits.")
# Parts that training needs but inference does not: a checkpoint may come without them.
OPTIONAL_PARTS = ("semantic_head.",)
_MAX_LOST = 0.1  # of the model's tensors, before a checkpoint counts as another architecture
_NAMES_SHOWN = 8


def check_architecture(
    report: LoadReport, wanted: Mapping[str, Tensor], *, strict: bool, partial: bool
) -> None:
    """Raise if a checkpoint does not belong to a model.

    Args:
        report: what would be loaded.
        wanted: the model's tensors by name.
        strict: require everything to fit.
        partial: accept whatever fits.

    Raises:
        CheckpointMismatch: a whole part of the model, or more than a tenth of it, would get
            nothing.
    """
    if strict and not report.complete:
        raise CheckpointMismatch(f"strict loading, but not everything fits: {report}", report)
    if partial:
        return
    lost = [*report.missing, *(name for name, _, _ in report.ill_shaped)]
    lost = [n for n in lost if not n.startswith((*CLASS_LAYERS, *OPTIONAL_PARTS))]
    lost = [n for n in lost if not n.endswith("num_batches_tracked")]
    if report.kind.endswith("-backbone"):
        lost = [n for n in lost if ".bottom_up." in n and not n.endswith("norm.running_mean")]
        lost = [n for n in lost if not n.endswith("norm.running_var")]
        total = Counter(part_of(n) for n in wanted if ".bottom_up." in n)
    else:
        total = Counter(part_of(n) for n in wanted)
    lost_in = Counter(map(part_of, lost))
    whole = [part for part, count in lost_in.items() if 1 < count == total[part]]
    if not whole and len(lost) <= _MAX_LOST * sum(total.values()):
        return
    raise CheckpointMismatch(_mismatch_text(report, total, lost_in), report)


def part_of(name: str) -> str:
    """The part of the model that a tensor belongs to, coarse enough to read.

    Args:
        name: a name in our state dict.
    """
    if ".bottom_up." in name:
        return "backbone.bottom_up"
    top, _, below = name.partition(".")
    return f"{top}.{below.split('.')[0]}" if top == "fcos_head" else top


def _mismatch_text(report: LoadReport, total: Counter[str], lost_in: Counter[str]) -> str:
    origin = KIND_NAMES[report.kind]
    parts = []
    for part, count in total.items():
        fits = count - lost_in[part]
        parts.append(
            f"  {part}: " + ("fits" if fits == count else f"{fits} of {count} tensors fit")
        )
    details = [
        f"  {name}: {in_file} in the checkpoint, {in_model} in the model"
        for name, in_file, in_model in report.ill_shaped
    ]
    return "\n".join(
        [
            f"the checkpoint ({origin}) has a different architecture from the model; nothing was "
            "loaded. What fits, by part:",
            *parts,
            *_shortened("ill-shaped", details),
            *_shortened("missing", [f"  {n}" for n in report.missing]),
            *_shortened("not in the model", [f"  {n}" for n in report.unexpected]),
            "Use the recipe that the checkpoint was trained with, or load only what fits "
            "(partial=True).",
        ]
    )


def _shortened(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  ... and {len(lines) - _NAMES_SHOWN} more"] if len(lines) > _NAMES_SHOWN else []
    return [f"{title} ({len(lines)}):", *lines[:_NAMES_SHOWN], *more]
