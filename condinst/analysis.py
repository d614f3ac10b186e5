"""The cost of a model: parameters, operations, activations and time, module by module."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from detectron2.utils.analysis import FlopCountAnalysis
from fvcore.nn import ActivationCountAnalysis
from torch import nn


@dataclass(frozen=True)
class ModuleCost:
    """The cost of one module, including its submodules.

    Attributes:
        name: Dotted name in the model; empty for the whole.
        kind: Its class.
        depth: Nesting below the whole.
        parameters: Number of parameters, trainable or frozen.
        flops: Multiply-add operations per image, as fvcore counts them.
        activations: Number of outputs of convolutions and matrix products.
        milliseconds: Median time per image; None for a module that is not called by itself.
        calls: How often it runs for one image.
    """

    name: str
    kind: str
    depth: int
    parameters: int
    flops: float
    activations: float
    milliseconds: float | None
    calls: int

    def as_dict(self) -> dict[str, object]:
        """As plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Analysis:
    """The costs of a model at one input size.

    Attributes:
        height: Of the input in pixels.
        width: Of the input in pixels.
        device: The device it ran on.
        threads: CPU threads used.
        modules: The whole model first, then its modules in order of definition.
        uncounted: Operators that fvcore cannot count, with how often they ran.
    """

    height: int
    width: int
    device: str
    threads: int
    modules: tuple[ModuleCost, ...]
    uncounted: tuple[tuple[str, int], ...]

    @property
    def whole(self) -> ModuleCost:
        """The cost of the model."""
        return self.modules[0]


def analyze(
    model: nn.Module, height: int, width: int, *, depth: int = 3, repeats: int = 5, seed: int = 0
) -> Analysis:
    """Counts and times a detectron2 model in inference on a noise image.

    How many instances pass the score threshold depends on the weights, and so does the cost of
    the mask heads.

    Args:
        model: Takes detectron2's list of dicts. Its mode is restored.
        height: Of the input.
        width: Of the input.
        depth: Modules nested deeper are left out of the result.
        repeats: Timed runs after a warm-up run; the median counts.
        seed: Of the image.

    Returns:
        The costs.

    Raises:
        ValueError: If a number is not positive.
    """
    for name, value in (("height", height), ("width", width), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} is {value}, must be at least 1")
    device = next(model.parameters()).device
    noise = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=noise, dtype=torch.uint8)
    inputs = [{"image": image.to(device), "height": height, "width": width}]
    with _evaluating(model):
        flops, activations, uncounted = _count(model, inputs)
        times, calls = _measure(model, inputs, repeats, device)
    rows = []
    for name, module in model.named_modules():
        level = name.count(".") + 1 if name else 0
        if level <= depth:
            rows.append(
                ModuleCost(
                    name=name,
                    kind=type(module).__name__,
                    depth=level,
                    parameters=sum(p.numel() for p in module.parameters()),
                    flops=float(flops.get(name, 0)),
                    activations=float(activations.get(name, 0)),
                    milliseconds=times.get(name),
                    calls=calls.get(name, 0),
                )
            )
    return Analysis(
        height, width, str(device), torch.get_num_threads(), tuple(rows), tuple(uncounted.items())
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _count(model: nn.Module, inputs: list[dict]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about every shape that it treats as fixed
        operations = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False)
        operations.uncalled_modules_warnings(False).tracer_warnings("none")
        flops = operations.by_module()
        outputs = ActivationCountAnalysis(operations._model, operations._inputs)
        outputs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        activations = outputs.tracer_warnings("none").by_module()
    return _own_names(flops), _own_names(activations), operations.unsupported_ops()


def _own_names(counts: Counter[str]) -> Counter[str]:
    """Without the prefix of the adapter that detectron2 wraps a model in."""
    return Counter(
        {
            name.removeprefix("model").removeprefix("."): value
            for name, value in counts.items()
            if name == "model" or name.startswith("model.")
        }
    )


def _measure(
    model: nn.Module, inputs: list[dict], repeats: int, device: torch.device
) -> tuple[dict[str, float], dict[str, int]]:
    """Median milliseconds and number of calls by module name."""
    stopwatch = _Stopwatch(_synchronizer(device))
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(stopwatch.start(name)))
        handles.append(module.register_forward_hook(stopwatch.stop(name)))
    runs = []
    try:
        for _ in range(repeats + 1):
            stopwatch.reset()
            model(inputs)
            runs.append((dict(stopwatch.total), dict(stopwatch.calls)))
    finally:
        for handle in handles:
            handle.remove()
    timed = runs[1:]
    times = {
        name: statistics.median(total[name] * 1000 for total, _ in timed if name in total)
        for name in timed[-1][0]
    }
    return times, timed[-1][1]


def _synchronizer(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


class _Stopwatch:
    """Adds up the time between a module's hooks."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.reset()

    def reset(self) -> None:
        self.total: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._started: dict[str, float] = {}

    def start(self, name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self.synchronize()
            self._started[name] = time.perf_counter()

        return hook

    def stop(self, name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self.synchronize()
            self.total[name] += time.perf_counter() - self._started[name]
            self.calls[name] += 1

        return hook
