"""The verb `analyze`: the cost of a recipe's model, as a tree and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from condinst import atomic
from condinst.errors import UserError
from pipeline.console import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from condinst.analysis import Analysis, ModuleCost

_NONE = "\N{EN DASH}"
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def run_analyze(
    config_file: str | Path = "outputs/train/config.yaml",
    *,
    height: int = 800,
    width: int = 1216,
    weights: str | Path | None = None,
    depth: int = 2,
    repeats: int = 3,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Analysis:
    """Prints parameters, FLOPs, activations and measured time per module.

    Args:
        config_file: The recipe.
        height: Of the input in pixels.
        width: Of the input in pixels.
        weights: Loaded first if given; random ones find other instances and so take another time.
        depth: Levels of nested modules to show.
        repeats: Number of timed runs.
        output: A JSON file to write as well.
        overrides: KEY VALUE pairs for the config.
        console: Where to print; a new one by default.

    Raises:
        UserError: If the recipe or weights cannot be used or a number is out of range.
    """
    for name, value in (("height", height), ("width", width), ("repeats", repeats)):
        if value < 1:
            raise UserError(f"{name} is {value}, must be at least 1")
    import torch
    from detectron2.modeling import build_model

    from condinst.analysis import analyze
    from condinst.config import load_config

    cfg = load_config(str(config_file), list(overrides))
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    model = build_model(cfg)
    if weights is not None:
        from condinst.checkpoint.loading import load_weights

        load_weights(model, str(weights))
    analysis = analyze(model, height, width, depth=depth, repeats=repeats)
    print_analysis(analysis, Path(config_file).stem, console)
    if output is not None:
        write_json(analysis, Path(output))
    return analysis


def write_json(analysis: Analysis, path: Path) -> None:
    """Writes the costs as plain values."""
    content = {
        "height": analysis.height,
        "width": analysis.width,
        "device": analysis.device,
        "threads": analysis.threads,
        "uncounted_operators": dict(analysis.uncounted),
        "modules": [module.as_dict() for module in analysis.modules],
    }
    atomic.write_json(path, content)


def print_analysis(analysis: Analysis, title: str, console: Console | None = None) -> None:
    """Prints the costs as a table whose first column is a tree."""
    from rich.box import SIMPLE
    from rich.table import Table

    whole = analysis.whole
    device = analysis.device
    if device == "cpu":
        device = f"CPU, {analysis.threads} thread{'s' if analysis.threads > 1 else ''}"
    table = Table(
        title=f"{title} at {analysis.height} x {analysis.width}, {device}",
        caption="FLOPs: multiply-adds; acts: activations; a module includes its submodules",
        header_style="bold",
        box=SIMPLE,
    )
    table.add_column("module", no_wrap=True)
    table.add_column("kind", style="dim", overflow="ellipsis")  # gives way on narrow terminals
    for name in ("params", "FLOPs", "acts", "time", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for module, stem in zip(analysis.modules, tree_stems(analysis.modules), strict=True):
        share = ""
        if module.milliseconds is not None and whole.milliseconds:
            share = f"{100 * module.milliseconds / whole.milliseconds:.0f} %"
        table.add_row(
            stem + (module.name.rpartition(".")[2] or "whole model"),
            module.kind,
            short(module.parameters),
            short(module.flops),
            short(module.activations),
            _NONE if module.milliseconds is None else f"{module.milliseconds:.1f} ms",
            share,
            style="bold" if module.depth == 0 else "" if module.depth == 1 else "dim",
        )
    rest = _outside(analysis.modules)
    if rest is not None and whole.milliseconds:
        share = f"{100 * rest / whole.milliseconds:.0f} %"
        table.add_row(
            "outside modules", "decoding, mask heads", _NONE, _NONE, _NONE, f"{rest:.1f} ms", share
        )
    (console or terminal()).print(table)


def _outside(modules: Sequence[ModuleCost]) -> float | None:
    """Milliseconds of the whole that none of its direct submodules accounts for."""
    inside = [m.milliseconds for m in modules if m.depth == 1 and m.milliseconds is not None]
    if modules[0].milliseconds is None or not inside:
        return None
    return max(0.0, modules[0].milliseconds - sum(inside))


def tree_stems(modules: Sequence[ModuleCost]) -> list[str]:
    """The branches that lead to each module in a drawn tree."""
    stems = []
    for index, module in enumerate(modules):
        stem = ""
        for level in range(1, module.depth + 1):
            later = next((m.depth for m in modules[index + 1 :] if m.depth <= level), 0)
            goes_on = later == level
            if level == module.depth:
                stem += "├─ " if goes_on else "└─ "
            else:
                stem += "│  " if goes_on else "   "
        stems.append(stem)
    return stems


def short(value: float) -> str:
    """A count with three digits and a suffix: 34.1 M."""
    for size, letter in _STEPS:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}" if value else _NONE
