"""Recognise who wrote a checkpoint by the names in it, and bring backbones to detectron2's names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import Tensor

from condinst.checkpoint.key_tables import Mapped

_CLASSIFIER = "the ImageNet classifier, which a detector has no use for"

# torchvision's name -> detectron2's, below one backbone; {} stands for a number.
TORCHVISION_RESNET: tuple[tuple[str, str], ...] = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
)


def recognise(names: Iterable[str]) -> str:
    """Say who wrote a checkpoint.

    Args:
        names: names of its tensors.

    Returns:
        A key of ``report.KIND_NAMES``; "unknown" if nothing is recognised.
    """
    names = set(names)
    tops = {n.split(".", 1)[0] for n in names}
    if "proposal_generator.fcos_head.controller.weight" in names:
        return "epiphqny"
    if any(n.startswith("proposal_generator.fcos_head.") for n in names):
        return "adelaidet"
    if "fcos_head" in tops:
        return "condinst"
    if any(re.match(r"(conv1|res2_0_branch2a)_w$", n) for n in names):
        return "caffe2-backbone"
    if "layer1.0.conv1.weight" in names:
        return "torchvision-backbone"
    if tops <= {"stem", "res2", "res3", "res4", "res5", "linear", "fc"} and "res2" in tops:
        return "detectron2-backbone"
    return "unknown"


def backbone_to_ours(state: Mapping[str, Tensor], kind: str, prefix: str) -> tuple[Mapped, list]:
    """Bring an ImageNet backbone's names to ours.

    Args:
        state: its tensors.
        kind: one of the ``*-backbone`` kinds.
        prefix: where the backbone lies in the model, such as ``backbone.bottom_up.``.

    Returns:
        The renamed tensors and the ignored (name, reason) pairs.
    """
    named = _detectron2_names(state, kind)
    mapped, ignored = Mapped(), []
    for name, (source, tensor) in named.items():
        if re.match(r"(stem\.fc|linear|fc|fc1000|pred)\b", name) or source.startswith("fc1000"):
            ignored.append((source, _CLASSIFIER))
        elif source.endswith("_momentum"):
            ignored.append((source, "the optimizer's momentum"))
        else:
            mapped.put(prefix + name, tensor, source)
    return mapped, ignored


def _detectron2_names(state: Mapping[str, Tensor], kind: str) -> dict[str, tuple[str, Tensor]]:
    """detectron2's name -> (name in the file, tensor)."""
    if kind == "caffe2-backbone":
        logging.getLogger("detectron2.checkpoint.c2_model_loading").setLevel(logging.WARNING)
        renamed, sources = convert_c2_detectron_names(dict(state))
        return {name: (sources[name], tensor) for name, tensor in renamed.items()}
    if kind == "torchvision-backbone":
        return {_torchvision_name(name): (name, tensor) for name, tensor in state.items()}
    return {name: (name, tensor) for name, tensor in state.items()}


def _torchvision_name(name: str) -> str:
    for pattern, new in TORCHVISION_RESNET:
        name = re.sub(pattern, new, name)
    return re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
