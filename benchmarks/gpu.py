"""Everything about speed that needs a GPU: `python -m benchmarks gpu`.

Mask heads by the Triton kernels against the readable reference, the forward pass with the limit of
its operations and bytes; then the whole training step and whole inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import inference, train_step
from benchmarks._rows import Row
from benchmarks.box_losses import scene
from benchmarks.box_losses import truth as box_truth
from benchmarks.mask_heads import NETWORK
from condinst.modeling.mask_head import triton_networks
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.reference import ReferenceBackend, mask_logits
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.triton_backend import TritonBackend
from condinst.modeling.supervision.box import BoxTruth
from condinst.modeling.supervision.dice import Dice

H, W = 100, 168


class Size(NamedTuple):
    """Instances, and the images' height and width."""

    instances: int = 500
    height: int = 800
    width: int = 1344
    repeats: int = 10


SMOKE = Size(instances=4, height=64, width=64, repeats=1)


def make(count: int, stride: int) -> tuple[MaskHeadSpec, Tensor, MaskQuery]:
    """Inputs of the paper's size on the GPU, two images."""
    torch.manual_seed(0)
    sizes = (64.0, 128.0, 256.0, 512.0, 1024.0)
    spec = MaskHeadSpec(HeadLayout(), "relative", sizes, 8, stride, stride, "aligned", Dice())
    features = torch.randn(2, 8, H, W, device="cuda", requires_grad=True)
    params = torch.randn(count, 169, device="cuda", requires_grad=True)
    images = torch.arange(count, device="cuda") % 2
    locations = torch.rand(count, 2, device="cuda") * 800
    return spec, features, MaskQuery(params, images, locations, images + 1)


def measure(function: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Seconds of several runs, and bytes beyond what was there before."""
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return {"seconds": seconds, "peak": torch.cuda.max_memory_allocated() - before}


def loss_and_gradients(
    backend: MaskBackend, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, masks: Tensor
) -> None:
    """Forward and backward."""
    targets = torch.arange(len(query.params), device="cuda") % len(masks)
    loss = backend.loss(spec, features, query, masks, targets)
    torch.autograd.grad(loss, (features, query.params))


def box_losses_and_gradients(
    backend: MaskBackend, spec: MaskHeadSpec, features: Tensor, query: MaskQuery, truth: BoxTruth
) -> None:
    """BoxInst's losses, forward and backward."""
    projection, pairwise = backend.box_losses(spec, features, query, truth)
    torch.autograd.grad(projection + 1e-3 * pairwise, (features, query.params))


Ways = tuple[Callable[[], object], Callable[[], object]]  # the reference, Triton


def forward(count: int) -> Ways:
    """Logits of the features' stride."""
    inputs = make(count, 4)
    return partial(mask_logits, *inputs), partial(triton_networks.mask_logits, *inputs)


def losses(count: int, stride: int) -> Ways:
    """Dice and its gradients."""
    spec, features, query = make(count, stride)
    factor = 8 // stride
    masks = torch.rand(20, H * factor, W * factor, device="cuda") > 0.5
    given = (spec, features, query, masks)
    return _both(loss_and_gradients, *given)


def box_losses(count: int) -> Ways:
    """BoxInst's losses and their gradients."""
    spec, features, query = make(count, 4)
    boxes, images = scene(count, 2, (H, W), 0.25)
    truth = box_truth(boxes.cuda(), [x.cuda() for x in images])
    return _both(box_losses_and_gradients, spec, features, query, truth)


def masks(count: int) -> Ways:
    """Final masks."""
    spec, features, query = make(count, 4)
    given = (spec, features, query, (800, 1216), (480, 730))
    return partial(ReferenceBackend().masks, *given), partial(TritonBackend().masks, *given)


def _both(function: Callable[..., None], *given: object) -> Ways:
    return partial(function, ReferenceBackend(), *given), partial(function, TritonBackend(), *given)


def mask_heads(size: Size) -> Iterator[Row]:
    """The tables of the mask heads."""
    count = size.instances
    few = max(count // 5, 1)
    with torch.no_grad():
        for k in (few, count):
            counted = {"flops": NETWORK * k * H * W, "moved": 4 * (k * (H * W + 169) + 16 * H * W)}
            yield from _compared(f"mask heads forward, {k} instances", forward(k), size, counted)
        yield from _compared(f"masks at 480 x 730, {few} instances", masks(few), size)
    for stride in (8, 4, 1):
        table = f"mask loss forward + backward, {count} instances, stride {stride}"
        yield from _compared(table, losses(count, stride), size)
    count = max(count // 4, 1)
    table = f"BoxInst's losses forward + backward, {count} instances, stride 4"
    yield from _compared(table, box_losses(count), size)


def _compared(
    table: str, ways: Ways, size: Size, counted: dict[str, float] | None = None
) -> Iterator[Row]:
    for what, against, way in zip(("reference", "triton"), ("", "reference"), ways, strict=True):
        found = measure(way, size.repeats) | (counted or {})
        yield Row(f"GPU: {table}", what, against=against, limit="cuda fp32", **found)


def rows(size: Size) -> Iterator[Row]:
    """All, or that there is no GPU."""
    if not torch.cuda.is_available():
        yield Row("GPU", "mask heads, training step, inference", refused="there is no GPU")
        return
    yield from mask_heads(size)
    image = {"height": size.height, "width": size.width, "repeats": size.repeats}
    yield from train_step.rows(train_step.Size(**image, device="cuda", half=True))
    yield from inference.rows(inference.Size(**image, device="cuda"))
