"""A comparison as an image: each variant's difference in the primary metric, its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condinst.evaluation.verdict import BETTER, OPEN, SAME, WORSE
from pipeline.compare.sentences import metric_words, phrase, primary_difference, primary_of

COLOURS = {BETTER: "#1a7f37", WORSE: "#cf222e", SAME: "#0969da", OPEN: "#6e7781"}


def draw(content: Mapping[str, Any], path: Path) -> bool:
    """Draw one panel a study; whether there was anything to draw.

    Args:
        content: what ``comparison.json`` holds.
        path: file to write, of any kind that matplotlib knows.
    """
    from matplotlib.figure import Figure

    panels = [
        (name, study, rows) for name, study in content["studies"].items() if (rows := _rows(study))
    ]
    if not panels:
        return False
    heights = [len(rows) + 1.6 for _, _, rows in panels]
    figure = Figure(figsize=(8, 0.45 * sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, study, rows) in zip(axes, panels, strict=True):
        for place, (label, one) in enumerate(reversed(rows)):
            colour = COLOURS[one["verdict"]["word"]]
            axis.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=2)
            axis.plot(one["difference"], place, "o", color=colour)
            axis.annotate(
                f"{label}: {phrase(one)}", (one["difference"], place),
                xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        axis.axvline(0, color="black", linewidth=0.8)
        if "margin" in study:
            axis.axvspan(-study["margin"], study["margin"], color="#0969da", alpha=0.08)
        axis.set_yticks([])
        axis.set_ylim(-0.6, len(rows) - 0.2)
        axis.set_title(study["question"] or name, loc="left", fontsize=10)
        interval = f"{content['confidence']:.0%} interval"
        words = metric_words(*primary_of(study))
        axis.set_xlabel(f"{words} minus {study['baseline']}'s, points, {interval}", fontsize=8)
    figure.savefig(path)
    return True


def _rows(study: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (name, one)
        for name, variant in study["variants"].items()
        if (one := primary_difference(study, variant))
    ]
