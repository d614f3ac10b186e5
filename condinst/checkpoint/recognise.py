"""Recognise who wrote a checkpoint by its names, and rename bare backbones to our names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import Tensor

from condinst.checkpoint.backbone_tables import BACKBONES, BOTTOM_UP
from condinst.checkpoint.rows import Mapped

_CLASSIFIER = "the ImageNet classifier, which a detector does not use"
_CLASSIFIER_NAMES = re.compile(
    r"(stem\.fc|linear|fc|fc1000|pred|classifier|head|conv_head|bn2|features\.18|conv\.[01])[._]"
)

# torchvision's ResNet -> detectron2's.
TORCHVISION_RESNET: tuple[tuple[str, str], ...] = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
)

# A name found only in this kind of bare backbone.
_BACKBONE_MARKS = {
    "caffe2-backbone": r"(conv1|res2_0_branch2a)_w",
    "torchvision-backbone": r"layer1\.0\.conv1\.weight",
    "vovnet-backbone": r"stem\.stem_1/conv\.weight",
    "mobilenetv2-backbone": r"features\.1\.conv\.0\.weight",
    "dla-backbone": r"base_layer\.0\.weight",
    "detectron2-backbone": r"res2\.0\.conv1\.weight",
}


def recognise(names: Iterable[str]) -> str:
    """Say who wrote a checkpoint.

    Args:
        names: names of its tensors.

    Returns:
        A key of ``report.KIND_NAMES``; "unknown" if nothing is recognised.
    """
    names = set(names)
    if "proposal_generator.fcos_head.controller.weight" in names:
        return "epiphqny"
    if any(n.startswith("proposal_generator.fcos_head.") for n in names):
        return "adelaidet"
    if any(n.startswith("fcos_head.") for n in names):
        return "condinst"
    bare = {n.removeprefix(BOTTOM_UP) for n in names}
    if any(n.startswith(("proposal_generator.", "roi_heads.", "backbone.")) for n in bare):
        return "unknown"  # another detector
    for kind, mark in _BACKBONE_MARKS.items():
        if any(re.fullmatch(mark, n) for n in bare):
            return kind
    return "unknown"


def backbone_to_ours(
    state: Mapping[str, Tensor], kind: str, prefix: str
) -> tuple[Mapped, list[tuple[str, str]]]:
    """Rename an ImageNet backbone's tensors to our names.

    Args:
        state: its tensors.
        kind: one of the ``*-backbone`` kinds.
        prefix: the backbone's prefix in the model, such as ``backbone.bottom_up.``.

    Returns:
        The renamed tensors and the ignored (name, reason) pairs.
    """
    mapped, ignored = Mapped(), []
    for name in state:
        if name.endswith("_momentum"):
            ignored.append((name, "the optimizer's momentum"))
    wanted = {name: tensor for name, tensor in state.items() if not name.endswith("_momentum")}
    for name, (source, tensor) in _our_names(wanted, kind, prefix).items():
        if _CLASSIFIER_NAMES.match(source.removeprefix(BOTTOM_UP)):
            ignored.append((source, _CLASSIFIER))
        else:
            mapped.put(name, tensor, source)
    return mapped, ignored


def _our_names(
    state: Mapping[str, Tensor], kind: str, prefix: str
) -> dict[str, tuple[str, Tensor]]:
    """Our name -> (name in the file, tensor)."""
    if kind == "caffe2-backbone":
        renamed, sources = convert_c2_detectron_names(dict(state))
        return {prefix + name: (sources[name], tensor) for name, tensor in renamed.items()}
    bare = {name.removeprefix(BOTTOM_UP): (name, tensor) for name, tensor in state.items()}
    if kind == "torchvision-backbone":
        return {prefix + _torchvision_name(n): value for n, value in bare.items()}
    if kind == "timm-backbone":
        return {f"{prefix}net.{n}": value for n, value in bare.items()}
    if kind == "detectron2-backbone":
        return {prefix + n: value for n, value in bare.items()}
    mapped = Mapped(rest={BOTTOM_UP + n: tensor for n, (_, tensor) in bare.items()})
    for row in BACKBONES:
        row.to_ours(mapped, None)
    places = {name: sources[0] for name, sources in mapped.sources.items()}
    places |= {name: name for name in mapped.rest}
    return {
        prefix + name.removeprefix(BOTTOM_UP): bare[place.removeprefix(BOTTOM_UP)]
        for name, place in places.items()
    }


def _torchvision_name(name: str) -> str:
    for pattern, new in TORCHVISION_RESNET:
        name = re.sub(pattern, new, name)
    return re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
