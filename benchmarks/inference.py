"""How long one image takes, from pixels to masks of its original size.

R-50, one image with about 100 detections, from calibrated random weights. Ratios are to the
readable reference: the model as it trains, mask heads by the backend `reference`. A way that this
machine cannot go is a row that says why. Counted are the reference's convolutions and matrix
products, for Winograd's way too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._rows import Row
from condinst.config import load_config
from condinst.inference.inference_copy import DTYPES, inference_copy
from condinst.inference.packed import refusal
from condinst.modeling.mask_head.choice import get_backend
from condinst.timing import in_turns

RECIPE = Path(__file__).parents[1] / "configs" / "CondInst" / "MS_R_50_1x.yaml"
REFERENCE = "reference fp32"
COPIES: dict[str, dict[str, Any]] = {  # arguments of `inference_copy`
    "inference copy fp32": {},
    "the same with Winograd": {"winograd": True},
    "inference copy bf16": {"precision": "bf16"},
}
GOALS = {"inference copy fp32": ">= 2.5 times", "inference copy bf16": ">= 5 times"}
CANDIDATES = 3000  # scores above the threshold, before suppression


class Size(NamedTuple):
    """Of the image, and where it is computed."""

    height: int = 800
    width: int = 1216
    repeats: int = 5
    device: str = "cpu"


SMOKE = Size(height=64, width=64, repeats=1)


def build(image: torch.Tensor, device: str) -> nn.Module:
    """A model from random weights whose maps have the scale of trained ones."""
    cfg = load_config(RECIPE, ["MODEL.DEVICE", device, "MODEL.WEIGHTS", ""])
    torch.manual_seed(0)
    model: Any = build_model(cfg).eval()
    hooks = [
        m.register_forward_pre_hook(_calibrate)
        for m in model.modules()
        if isinstance(m, (FrozenBatchNorm2d, nn.BatchNorm2d))
    ]
    nn.init.constant_(model.fcos_head.bbox_pred.bias, 3.0)  # boxes of some strides
    nn.init.normal_(model.controller.weight, std=0.05)  # masks that are not empty
    with torch.inference_mode():
        features = model.backbone(model._pad([model._normalise(image)]).tensor)
        model.mask_branch(features)
        out = model.fcos_head([features[name] for name in model.in_features])
    for hook in hooks:
        hook.remove()
    weights = out.quality if model.decode_settings.quality_first else None
    scores = torch.cat(
        [
            (x.sigmoid() * (1 if weights is None else weights[i].sigmoid())).flatten()
            for i, x in enumerate(out.logits)
        ]
    )
    threshold = float(scores.topk(min(CANDIDATES, len(scores))).values[-1])
    settings = model.decode_settings
    model.decode_settings = type(settings)(**{**vars(settings), "score_threshold": threshold})
    return model


def _calibrate(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    x = inputs[0]
    norm.running_mean.copy_(x.mean((0, 2, 3)))
    norm.running_var.copy_(x.var((0, 2, 3)) + 1e-3)


def agreement(a: Any, b: Any) -> str:
    """How many detections of ``a`` are in ``b``, and how many mask pixels of those differ."""
    found = differing = pixels = 0
    for i in range(len(a)):
        near = (b.pred_boxes.tensor - a.pred_boxes.tensor[i]).abs().amax(1) < 0.1
        same = (near & (b.pred_classes == a.pred_classes[i])).nonzero().flatten()
        if len(same):
            found += 1
            differing += int((a.pred_masks[i] != b.pred_masks[same[0]]).sum())
            pixels += a.pred_masks[i].numel()
    return f"{found}/{len(a)} found, {differing / max(pixels, 1):.1e} of pixels differ"


def waiting(model: Any, call: Callable[..., object], *given: Any) -> None:
    """A call, until the device has done all it was given."""
    call(*given)
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def parts(model: Any, image: torch.Tensor) -> dict[str, Callable[[], None]]:
    """What can be run on its own."""
    batch = model._pad([model._normalise(image)]).tensor
    features = model.backbone(batch)
    chosen = [features[name] for name in model.in_features]
    return {
        "backbone": partial(waiting, model, model.backbone, batch),
        "FCOS head": partial(waiting, model, model.fcos_head, chosen),
        "mask branch": partial(waiting, model, model.mask_branch, features),
    }


def flops(call: Callable[[], object]) -> float:
    """Operations of a call's convolutions and matrix products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def ways(reference: Any, entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The models that run here by name, warmed up, and why the others do not."""
    models, refused = {REFERENCE: reference}, {}
    reference([entry])
    for name, settings in COPIES.items():
        dtype = DTYPES[settings.get("precision", "fp32")]
        if reference.device.type == "cpu" and (reason := refusal(dtype)) is not None:
            refused[name] = reason  # ordinary convolutions would run, and say nothing of this way
            continue
        try:
            made: Any = inference_copy(reference, **settings)
            made.mask_backend = get_backend("auto")
            made([entry])
        except RuntimeError as error:
            refused[name] = str(error).partition("\n")[0]
        else:
            models[name] = made
    return models, refused


def rows(size: Size) -> Iterator[Row]:
    """Whole inference, then its parts."""
    h, w = size.height, size.width
    torch.manual_seed(1)
    noise = torch.rand(1, 3, h // 16, w // 16)
    image = (F.interpolate(noise, size=(h, w), mode="bicubic")[0] * 255).clamp(0, 255)
    entry = {"image": image, "height": h * 3 // 5, "width": w * 3 // 5}
    reference: Any = build(image, size.device)
    reference.mask_backend = get_backend("reference")
    counted = flops(lambda: reference([entry]))
    with torch.no_grad():
        counted_parts = {part: flops(call) for part, call in parts(reference, image).items()}
    with torch.inference_mode():
        models, refused = ways(reference, entry)
        found = {name: model([entry])[0]["instances"] for name, model in models.items()}
        calls = {name: partial(waiting, model, model, [entry]) for name, model in models.items()}
        taken = in_turns(calls, size.repeats)
        yield from whole(size, taken, found, refused, counted)
        for name, model in models.items():
            taken = in_turns(parts(model, image), size.repeats)
            for part, count in counted_parts.items():
                limit = _limit(name, size.device)
                yield Row(f"{title(size)}: its parts", f"{name}: {part}", taken[part], flops=count,
                          limit=limit)  # fmt: skip


def title(size: Size) -> str:
    """Of the table."""
    return f"Inference, R-50, one image of {size.height} x {size.width}, {size.device}"


def whole(
    size: Size,
    taken: dict[str, list[float]],
    found: dict[str, Any],
    refused: dict[str, str],
    counted: float,
) -> Iterator[Row]:
    """The table of all ways; the reference is the first."""
    table = title(size)
    for name in (REFERENCE, *COPIES):
        if name in refused:
            yield Row(table, name, refused=refused[name])
            continue
        against = "" if name == REFERENCE else REFERENCE
        count = len(found[REFERENCE])
        note = agreement(found[REFERENCE], found[name]) if against else f"{count} detections"
        yield Row(table, name, taken[name], against, GOALS.get(name, ""), flops=counted,
                  limit=_limit(name, size.device), note=note)  # fmt: skip


def _limit(name: str, device: str) -> str:
    return f"{device} {name.rpartition(' ')[2] if name.endswith('bf16') else 'fp32'}"
