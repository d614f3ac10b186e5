"""The best that this machine reaches: matrix products, convolutions, copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from benchmarks._rows import Limit


def limits(*, smoke: bool = False) -> Iterator[Limit]:
    """Rates of matrix products, convolutions and copies, on the GPU too; seconds in all."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    with torch.inference_mode():
        for device in devices:
            yield from _products(device, smoke)
            yield from _convolutions(device, smoke)
            yield _copies(device, smoke)


class _Conv(NamedTuple):
    """A convolution of ResNet-50 at an image of 800 x 1216."""

    kernel: int
    inputs: int
    outputs: int
    height: int
    width: int


_LONG = 0.2  # seconds of a single call
_CONVS = (
    _Conv(3, 64, 64, 200, 304),
    _Conv(3, 128, 128, 100, 152),
    _Conv(3, 256, 256, 50, 76),
    _Conv(3, 512, 512, 25, 38),
    _Conv(1, 64, 256, 200, 304),
    _Conv(1, 512, 128, 100, 152),
    _Conv(1, 1024, 256, 50, 76),
    _Conv(1, 512, 2048, 25, 38),
)


def _products(device: str, smoke: bool) -> Iterator[Limit]:
    sizes = (64,) if smoke else (256, 1024, 2048) if device == "cpu" else (8192,)
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        best = 0.0
        for size in sizes:
            flops = 2 * size**3
            if best and flops / best > _LONG:
                break  # bf16 without instructions for it
            a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
            best = max(best, flops / _least(partial(torch.matmul, a, b), device))
        yield Limit(f"{device}: matrix product, {name}", f"{device} {name}", best)


def _convolutions(device: str, smoke: bool) -> Iterator[Limit]:
    formats = (torch.contiguous_format, "contiguous"), (torch.channels_last, "channels last")
    for kernel in (3, 1):
        for memory_format, name in formats:
            rates = []
            for conv in (x for x in _CONVS if x.kernel == kernel):
                h, w = (8, 8) if smoke else (conv.height, conv.width)
                maps = torch.rand(1, conv.inputs, h, w, device=device)
                weight = torch.rand(conv.outputs, conv.inputs, kernel, kernel, device=device)
                maps, weight = (x.to(memory_format=memory_format) for x in (maps, weight))
                flops = 2 * kernel**2 * conv.inputs * conv.outputs * h * w
                call = partial(F.conv2d, maps, weight, padding=kernel // 2)
                rates.append(flops / _least(call, device))
            what = f"{device}: convolution {kernel} x {kernel} of R-50, fp32, {name}"
            yield Limit(what, f"{device} fp32", max(rates))


def _copies(device: str, smoke: bool) -> Limit:
    source = torch.ones(1 << (20 if smoke else 26 if device == "cpu" else 28), device=device)
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / _least(partial(target.copy_, source), device)
    size = f"{source.nbytes / 1e6:.0f} MB"
    return Limit(f"{device}: copy of {size}, read and written", f"{device} memory", rate)


def _least(call: Callable[[], object], device: str, times: int = 4) -> float:
    """Seconds of the fastest call but the first."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    call()
    taken = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - start)
    return min(taken)
