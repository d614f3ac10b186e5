"""What a parent run's page says; needs no store."""

from __future__ import annotations

from typing import Any

from pipeline.tracking import notes

RESULTS: dict[str, Any] = {
    "question": "Which?",
    "run_id": "p" * 32,
    "experiment_id": "3",
    "runs": [
        {"variant": "a", "seed": 0, "state": "finished", "run_id": "a" * 32, "experiment_id": "3",
         "metrics": {"segm": {"AP": 41.26}, "boundary": {"AP": 22.22}, "bbox": {"AP": None}}},
        {"variant": "b", "seed": 0, "state": "finished", "run_id": "b" * 32, "experiment_id": "3",
         "metrics": {"segm": {"AP": 30.0}, "bbox": {"AP": 31.0}}},
        {"variant": "c|d", "seed": 0, "state": "failed", "run_id": None, "experiment_id": None,
         "metrics": {}},
    ],
}  # fmt: skip


def test_table_links_to_children_and_their_comparison() -> None:
    text = notes.study_note(RESULTS)
    assert f"| [a](#/experiments/3/runs/{'a' * 32}) | 0 | 41.3 | 22.2 | - | finished |" in text
    assert "| 0 | 30.0 | - | 31.0 | finished |" in text  # of a version without boundaries
    assert "| c/d | 0 | - | - | - | failed |" in text
    assert "[Compare these 2 runs side by side](./#/compare-runs?runs=" in text
    assert "comparison.svg" not in text


def test_comparison_and_plot_follow() -> None:
    text = notes.study_note(RESULTS, "# Comparison\n\n## a: Which?\n\nb is worse.\n", "c/plot.svg")
    assert f"get-artifact?path=c/plot.svg&run_uuid={'p' * 32}" in text
    assert "#### a: Which?" in text
    assert "# Comparison\n" not in text
    assert text.endswith("b is worse.")
    long = notes.study_note(RESULTS, "line of a table\n" * 1000)
    assert len(long) < 8000
    assert long.endswith("The rest is among the run's files.")
