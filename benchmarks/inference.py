"""How long one picture takes, from pixels to masks of its original size.

R-50, one image of 800 x 1216 with about 100 detections, from calibrated random weights. Ratios are
to the readable reference: the model as it trains, mask heads by the backend `reference`. A way that
this machine cannot go is a row that says why.
`--size 256 320 --repeats 1` tries it out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from benchmarks._measure import markdown
from condinst.config import load_config
from condinst.inference.inference_copy import DTYPES, inference_copy
from condinst.inference.packed import refusal
from condinst.modeling.mask_head.choice import get_backend

RECIPE = Path(__file__).parents[1] / "configs" / "CondInst" / "MS_R_50_1x.yaml"
REFERENCE = "reference fp32"
COPIES: dict[str, dict[str, Any]] = {  # arguments of `inference_copy`
    "inference copy fp32": {},
    "the same with Winograd": {"winograd": True},
    "inference copy bf16": {"precision": "bf16"},
}
GOALS = {"inference copy fp32": ">= 2.5", "inference copy bf16": ">= 5"}
CANDIDATES = 3000  # scores above the threshold, before suppression


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


def clock(model: Any) -> float:
    """Seconds, when the device has done all it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def stages(model: Any, image: torch.Tensor) -> dict[str, float]:
    """Seconds of the parts that can be run on their own."""
    times = {}
    with torch.inference_mode():
        batch = model._pad([model._normalise(image)]).tensor
        start = clock(model)
        features = model.backbone(batch)
        times["backbone"] = clock(model) - start
        start = clock(model)
        model.fcos_head([features[name] for name in model.in_features])
        times["fcos head"] = clock(model) - start
        start = clock(model)
        model.mask_branch(features)
        times["mask branch"] = clock(model) - start
    return times


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


def rows(
    times: dict[str, list[float]], found: dict[str, Any], refused: dict[str, str]
) -> list[tuple[str, ...]]:
    """The table's lines; the reference is the first."""
    base, lines = statistics.median(times[REFERENCE]), []
    for name in (REFERENCE, *COPIES):
        if name in refused:
            lines.append((name, "", "", "", f"not on this machine: {refused[name]}", ""))
            continue
        middle, spread = statistics.median(times[name]), _spread(times[name])
        same = agreement(found[REFERENCE], found[name])
        goal = GOALS.get(name, "")
        lines.append((name, f"{middle:.3f}", spread, f"{base / middle:.2f}", same, goal))
    return lines


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.3f} to {max(seconds):.3f}"


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1216), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    h, w = arguments.size
    torch.manual_seed(1)
    noise = torch.rand(1, 3, h // 16, w // 16)
    image = (F.interpolate(noise, size=(h, w), mode="bicubic")[0] * 255).clamp(0, 255)
    entry = {"image": image, "height": h * 3 // 5, "width": w * 3 // 5}
    reference: Any = build(image, arguments.device)
    reference.mask_backend = get_backend("reference")
    with torch.inference_mode():
        models, refused = ways(reference, entry)
        found = {name: model([entry])[0]["instances"] for name, model in models.items()}
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(arguments.repeats):  # in turns, so that all share the machine's moods
            for name, model in models.items():
                start = clock(model)
                model([entry])
                times[name].append(clock(model) - start)
    where = f"{arguments.threads} threads" if arguments.device == "cpu" else arguments.device
    heads = ("", "median s", "fastest to slowest", "times faster", "against the reference", "goal")
    title = f"Inference, R-50, {h} x {w}, {len(found[REFERENCE])} detections, {where}"
    markdown(title, heads, rows(times, found, refused))
    for name, model in models.items():
        parts = ", ".join(f"{part} {seconds:.3f}" for part, seconds in stages(model, image).items())
        print(f"{name}, seconds: {parts}  ")


if __name__ == "__main__":
    main()
