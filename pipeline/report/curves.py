"""The training's curves."""

from __future__ import annotations

import statistics

from markupsafe import Markup

from condinst.metrics import WORDS
from pipeline.charts import Series, line_chart

_TERMS = {
    "loss_fcos_cls": "class",
    "loss_fcos_loc": "box",
    "loss_fcos_ctr": "centreness",
    "loss_fcos_iou": "box quality",
    "loss_mask": "mask",
    "loss_sem": "semantic",
}
_WIDE = 2.5  # times from the least to the greatest loss, beyond which the axis is logarithmic
Rows = list[dict[str, float]]
Points = list[tuple[float, float]]


def points(rows: Rows, key: str) -> Points:
    """The values of a column over the steps."""
    return [(row["iteration"], row[key]) for row in rows if key in row and "iteration" in row]


def smooth(values: Points) -> Points:
    """A running mean over a twentieth of the curve, centred, shorter at both ends."""
    reach = max(1, len(values) // 40)
    means = []
    for index, (x, _) in enumerate(values):
        near = min(reach, index, len(values) - 1 - index)
        window = values[index - near : index + near + 1]
        means.append((x, statistics.fmean(y for _, y in window)))
    return means


def loss_charts(rows: Rows) -> list[tuple[str, Markup]]:
    """Total loss, and its terms."""
    total = points(rows, "total_loss")
    charts = [
        (
            "Total loss",
            line_chart(
                [Series("", total, 1, faint=True), Series("total", smooth(total), 1)],
                x_label="step",
                y_label="loss",
                log_y=_spread(total) > _WIDE,
                width=480,
                height=320,
            ),
        )
    ]
    found = {key: points(rows, key) for key in dict.fromkeys(key for row in rows for key in row)}
    terms = {key: values for key, values in found.items() if key.startswith("loss_") and values}
    lines = [
        Series(_TERMS.get(key, key.removeprefix("loss_")), smooth(values), tone)
        for tone, (key, values) in enumerate(terms.items(), start=1)
    ]
    log = any(_spread(values) > _WIDE for values in terms.values())
    charts.append(
        (
            "Its terms",
            line_chart(lines, x_label="step", y_label="loss", log_y=log, width=480, height=320),
        )
    )
    return [(title, chart) for title, chart in charts if chart]


def side_charts(rows: Rows) -> list[tuple[str, Markup]]:
    """Learning rate, speed, and scores on the way where they were measured."""
    wanted = [
        ("Learning rate", "lr", "learning rate"),
        ("Speed", "images_per_s", "images a second"),
    ]
    charts = [
        (
            title,
            line_chart(
                [Series("", points(rows, key), 3)],
                x_label="step",
                y_label=label,
                width=480,
                height=230,
                y_range=(0, max((y for _, y in points(rows, key)), default=1)),
            ),
        )
        for title, key, label in wanted
        if points(rows, key)
    ]
    scored = [(f"eval/{task}/AP", f"{word} AP") for task, word in WORDS.items()]
    lines = [Series(name, points(rows, key), k) for k, (key, name) in enumerate(scored, start=1)]
    on_the_way = line_chart(lines, x_label="step", y_label="AP (%)", width=480, height=230)
    charts.append(("Scores on the way", on_the_way))
    return [(title, chart) for title, chart in charts if chart]


def _spread(values: Points) -> float:
    heights = [y for _, y in values if y > 0]
    return max(heights) / min(heights) if heights else 1.0
