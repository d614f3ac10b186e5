"""Everything about speed that needs a GPU, in one command: `python -m benchmarks.gpu`.

Mask heads by the Triton kernels against the readable reference: times, peak extra memory, and the
floor of the forward pass; then the whole training step and whole inference.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import inference, train_step
from benchmarks.box_losses import scene
from benchmarks.box_losses import truth as box_truth
from condinst.modeling.mask_head import triton_networks
from condinst.modeling.mask_head.backend import MaskBackend
from condinst.modeling.mask_head.layout import HeadLayout
from condinst.modeling.mask_head.reference import ReferenceBackend, mask_logits
from condinst.modeling.mask_head.spec import MaskHeadSpec, MaskQuery
from condinst.modeling.mask_head.triton_backend import TritonBackend
from condinst.modeling.supervision.box import BoxTruth
from condinst.modeling.supervision.dice import Dice

H, W = 100, 168
REPEATS = 10
LANES = 128  # multiply-adds a clock and multiprocessor in fp32, since Ampere's GA10x and Hopper


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


def measure(function: Callable[[], object]) -> tuple[list[float], float]:
    """Milliseconds of several runs, and megabytes beyond what was there before."""
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times, (torch.cuda.max_memory_allocated() - before) / 1e6


def compare(name: str, reference: Callable[[], object], fast: Callable[[], object]) -> float:
    """Print one row; the fast way's median."""
    base, fast_times = measure(reference), measure(fast)
    middle = statistics.median(fast_times[0])
    print(
        f"{name:34}{statistics.median(base[0]):10.2f}{middle:9.3f}"
        f"{min(fast_times[0]):9.3f} to {max(fast_times[0]):.3f}"
        f"{statistics.median(base[0]) / middle:8.1f}{base[1]:10.0f}{fast_times[1]:9.0f}"
    )
    return middle


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


def floor(count: int) -> tuple[float, float, str]:
    """Milliseconds that operations and bytes of the logits must take, and the count."""
    properties = torch.cuda.get_device_properties(0)
    adds = count * H * W * (10 * 8 + 8 * 8 + 8)
    moved = 4 * (count * H * W + 2 * 8 * H * W + count * 169)
    rate = properties.multi_processor_count * LANES * properties.clock_rate * 1e3
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copying = statistics.median(measure(lambda: target.copy_(source))[0]) / 1e3
    bandwidth = 2 * 4 * source.numel() / copying
    note = f"{adds / 1e9:.2f} G multiply-adds, {moved / 1e6:.1f} MB at {bandwidth / 1e9:.0f} GB/s"
    return adds / rate * 1e3, moved / bandwidth * 1e3, note


def mask_heads() -> None:
    """The table of the mask heads."""
    reference, fast = ReferenceBackend(), TritonBackend()
    print(f"{'':34}{'reference':>10}{'triton':>9}{'min to max ms':>19}{'ratio':>8}", end="")
    print(f"{'MB before':>10}{'MB now':>9}")
    with torch.no_grad():
        for count in (100, 500):
            inputs = make(count, 4)
            middle = compare(
                f"forward, K = {count}",
                partial(mask_logits, *inputs),
                partial(triton_networks.mask_logits, *inputs),
            )
            operations, traffic, note = floor(count)
            least = max(operations, traffic)
            print(f"    floor {least:.4f} ms ({note}): {middle / least:.1f} times that")
    for stride in (8, 4, 1):
        spec, features, query = make(500, stride)
        factor = 8 // stride
        masks = torch.rand(20, H * factor, W * factor, device="cuda") > 0.5
        both = (
            partial(loss_and_gradients, one, spec, features, query, masks)
            for one in (reference, fast)
        )
        compare(f"loss and gradients, K = 500, stride {stride}", *both)
    spec, features, query = make(128, 4)
    boxes, images = scene(128, 2, (H, W), 0.25)
    truth = box_truth(boxes.cuda(), [x.cuda() for x in images])
    both = (
        partial(box_losses_and_gradients, one, spec, features, query, truth)
        for one in (reference, fast)
    )
    compare("from boxes, K = 128, stride 4", *both)
    spec, features, query = make(100, 4)
    sizes = (800, 1216), (480, 730)
    with torch.no_grad():
        both = (partial(one.masks, spec, features, query, *sizes) for one in (reference, fast))
        compare("masks at 480 x 730, K = 100", *both)


def main() -> None:
    """Measure all, or say that there is no GPU."""
    if not torch.cuda.is_available():
        print(
            "No GPU here: nothing measured. Run `python -m benchmarks.gpu` on a machine with one."
        )
        return
    print(torch.cuda.get_device_name())
    mask_heads()
    train_step.main(["--device", "cuda", "--size", "800", "1344", "--repeats", "10", "--half"])
    inference.main(["--device", "cuda", "--size", "800", "1344", "--repeats", "20"])


if __name__ == "__main__":
    main()
