"""A comparison as an image: each variant's difference in the primary metric, its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from condinst.evaluation.verdict import BETTER, SAME, WORSE
from pipeline.charts import WIDTH, Interval, intervals, text
from pipeline.compare.sentences import metric_words, phrase, primary_difference, primary_of

_STYLE = Path(__file__).resolve().parent.parent / "report/templates/style.css"
_TONES = {BETTER: "good", WORSE: "bad", SAME: "same"}
_TITLE = 30  # height of a panel's title


def draw(content: Mapping[str, Any], path: Path) -> bool:
    """Draw one panel per study in the report's style; whether there was anything to draw.

    Args:
        content: what ``comparison.json`` holds.
        path: of the SVG file.
    """
    drawn, top = [], 0
    for name, study in content["studies"].items():
        rows = _rows(study)
        if not rows:
            continue
        words = metric_words(*primary_of(study))
        parts, height = intervals(
            rows,
            x_label=f"{words} minus {study['baseline']}'s, points, "
            f"{content['confidence']:.0%} interval",
            zero=f"as {study['baseline']}",
        )
        title = text("rowname", 14, 20, study["question"] or name, "start")
        panel = Markup('<g transform="translate(0 {})">{}</g>')
        drawn.append(panel.format(top, title))
        drawn.append(panel.format(top + _TITLE, Markup("").join(parts)))
        top += _TITLE + height + 14
    if drawn:
        whole = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {0} {1}" '
            'width="{0}" height="{1}" style="font-family: system-ui, sans-serif"><style>{2}</style>'
            '<rect width="{0}" height="{1}" style="fill: var(--card)"/>{3}</svg>\n'
        )
        style = Markup(_STYLE.read_text(encoding="utf-8"))  # of the project itself
        path.write_text(whole.format(WIDTH, top, style, Markup("").join(drawn)), encoding="utf-8")
    return bool(drawn)


def _rows(study: Mapping[str, Any]) -> list[Interval]:
    return [
        Interval(
            name, one["difference"], one["low"], one["high"],
            _TONES.get(one["verdict"]["word"], "neutral"), phrase(one),
        )
        for name, variant in study["variants"].items()
        if (one := primary_difference(study, variant))
    ]  # fmt: skip
