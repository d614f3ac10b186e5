"""From detections to everything measured on them: metrics, intervals, curves, tables."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from condinst.errors import UserError
from condinst.evaluation import losses as lost
from condinst.evaluation.bootstrap import Interval, confidence_intervals, image_draws, sample
from condinst.evaluation.coco import evaluate_coco
from condinst.evaluation.inputs import GroundTruth, load_ground_truth
from condinst.evaluation.losses import KINDS, LostAp, lost_ap
from condinst.evaluation.matching import match_detections
from condinst.evaluation.quality import ImageQuality, image_qualities
from condinst.evaluation.scores import CocoScores
from condinst.metrics import MEANINGS, TASKS, WORDS
from pipeline import runs
from pipeline.console import terminal

Metrics = Mapping[str, Mapping[str, float | None]]
DRAWS, CONFIDENCE, SEED = 1000, 0.95, 0
NEAR_ZERO = 1.0  # percent
_SHOWN = 8


@dataclass(frozen=True)
class ScoreCard:
    """All measurements of a set of detections.

    Attributes:
        annotations: Ground truth they were measured against.
        detections: In COCO's results format.
        scores: The metrics, overall and per class, and the curves.
        intervals: Task to metric to interval over images.
        qualities: Task to images.
        losses: Task to why AP was lost.
        file_names: Image id to file name.
        max_dets: Limit on detections per image and category.
        remarks: What a reader must know, in plain sentences.
        learnable: Task to AP over the classes that have training objects; None if all classes
            have some.
    """

    annotations: Path
    detections: Sequence[Mapping[str, Any]]
    scores: CocoScores
    intervals: Mapping[str, Mapping[str, Interval | None]]
    qualities: Mapping[str, Sequence[ImageQuality]]
    losses: Mapping[str, LostAp]
    file_names: Mapping[int, str]
    max_dets: int
    remarks: tuple[str, ...]
    learnable: Mapping[str, float | None] | None = None


def score(
    annotations: Path,
    detections: Sequence[Mapping[str, Any]],
    *,
    backend: str = "auto",
    max_dets: int = 100,
    untaught: Collection[str] = (),
) -> ScoreCard:
    """Measure detections.

    Args:
        annotations: COCO ground truth.
        detections: in COCO's results format.
        backend: evaluator.
        max_dets: limit on detections per image and category.
        untaught: names of classes without training objects.
    """
    truth = load_ground_truth(annotations)
    masks = not detections or any("segmentation" in entry for entry in detections)
    tasks = TASKS if masks else ("bbox",)
    matches = {
        task: match_detections(truth, detections, task=task, max_dets=max_dets) for task in tasks
    }
    scores = evaluate_coco(
        truth, detections, backend=backend, tasks=tasks, max_dets=max_dets, matches=matches
    )
    draws = image_draws(len(truth.images), DRAWS, SEED)
    intervals, qualities, losses = {}, {}, {}
    for task, matched in matches.items():
        intervals[task] = confidence_intervals(sample(matched, draws), CONFIDENCE)
        qualities[task] = image_qualities(matched)
        if task in lost.TASKS:
            losses[task] = lost_ap(truth, detections, task=task, max_dets=max_dets)
    names = {image["id"]: str(image.get("file_name", image["id"])) for image in truth.images}
    learnable = _learnable(scores, untaught) if untaught else None
    remarks = (*_remarks(scores, len(detections)), *_mask_remarks(truth, tasks))
    if learnable is not None:
        remarks += (_learnable_sentence(learnable, untaught),)
    return ScoreCard(
        annotations, detections, scores, intervals, qualities, losses, names, max_dets, remarks,
        learnable,
    )  # fmt: skip


def publish(card: ScoreCard, output: Path, about: Mapping[str, Any]) -> None:
    """Write the files of an evaluation; the folder is replaced only when all are complete.

    Args:
        card: what was measured.
        output: the folder.
        about: what is known about weights and data, for ``evaluation.json``.

    Raises:
        UserError: it cannot be written to disk; an earlier folder stays.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name:
            folder = Path(name)
            _write(card, folder, about)
            runs.publish({path.name: path for path in folder.iterdir()}, output)
    except OSError as error:
        raise UserError(f"{output} could not be written: {error}; is the disk full?") from error


def show(card: ScoreCard, output: Path | None = None, console: Console | None = None) -> None:
    """Print the twelve metrics of mask, boundary and box with their intervals."""
    console = console or terminal()
    images = len(card.file_names)
    table = Table(
        title=f"COCO scores on {images:,} images, {len(card.detections):,} detections",
        caption=f"percent, with {CONFIDENCE:.0%} intervals over images; "
        f"{card.scores.evaluator} {card.scores.version}",
    )
    table.add_column("number", style="bold")
    measured = [task for task in WORDS if task in card.scores.metrics]
    for task in measured:
        table.add_column(WORDS[task], justify="right", style="bold cyan")
        table.add_column("interval", justify="right", style="dim")
    table.add_column("what it measures", style="dim")
    for name, meaning in MEANINGS.items():
        cells = [name]
        for task in measured:
            value, interval = card.scores.metrics[task][name], card.intervals[task][name]
            cells.append("-" if value is None else f"{value:.1f}")
            cells.append("" if interval is None else f"{interval.low:.1f} to {interval.high:.1f}")
        table.add_row(*cells, meaning, end_section=name in ("APl", "ARl"))
    console.print(table)
    if "segm" in card.losses:
        console.print(_lost_sentence(card.losses["segm"]))
    for remark in card.remarks:
        console.print(Text.assemble(("Note:", "yellow"), " ", remark))
    if output is not None:
        console.print(f"Written to {os.path.relpath(output)}")


def _lost_sentence(cost: LostAp) -> str:
    """The kinds of errors that cost the most mask AP50, the costliest first."""
    order = sorted(KINDS, key=lambda kind: -cost.gains[kind])
    kinds = ", ".join(f"{KINDS[kind]} {cost.gains[kind]:.1f}" for kind in order)
    return f"Points of mask AP50 lost to each kind of error (TIDE): {kinds}."


def _learnable(scores: CocoScores, untaught: Collection[str]) -> dict[str, float | None]:
    """AP per task, the mean over classes that could be learned; None: val has none of them."""
    found = {}
    for task, classes in scores.per_class.items():
        values = [numbers["AP"] for name, numbers in classes.items() if name not in untaught]
        there = [value for value in values if value is not None]
        found[task] = sum(there) / len(there) if there else None
    return found


def _learnable_sentence(learnable: Mapping[str, float | None], untaught: Collection[str]) -> str:
    listed = sorted(untaught)
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    mask, box = (
        "undefined" if (value := learnable.get(task)) is None else f"{value:.1f}"
        for task in ("segm", "bbox")
    )
    return (
        f"val has objects of {len(listed):,} class{'es' if len(listed) != 1 else ''} without "
        f"training objects ({', '.join(listed[:_SHOWN])}{more}); over the classes that could be "
        f"learned, mask AP is {mask} and box AP {box}."
    )


def _remarks(scores: CocoScores, detections: int) -> tuple[str, ...]:
    if detections == 0:
        return (
            "the model detects nothing above evaluate.score_threshold: every metric is zero. It "
            "has not learned yet (train longer), or the threshold is too high.",
        )
    low = [
        f"{word} AP is {value:.2f}, close to zero"
        for task, word in (("segm", "mask"), ("bbox", "box"))
        if (value := scores.metrics.get(task, {}).get("AP")) is not None and value < NEAR_ZERO
    ]
    if not low:
        return ()
    return (f"{' and '.join(low)}: the model has hardly learned to find objects on this data.",)


def _mask_remarks(truth: GroundTruth, tasks: Collection[str]) -> tuple[str, ...]:
    if "segm" not in tasks:
        return ("the model gives boxes without masks: only box AP is measured.",)
    boxed = truth.without_masks
    if not boxed:
        return ()
    objects = sum(not entry["iscrowd"] for entry in truth.annotations)
    if boxed == objects:
        return ("no object has a mask: only box AP is measured, mask AP is undefined.",)
    return (
        f"{boxed:,} of {objects:,} objects have only a box: mask AP is over the others; detections "
        "in those boxes count neither for nor against it.",
    )


def _write(card: ScoreCard, folder: Path, about: Mapping[str, Any]) -> None:
    intervals = {
        task: {name: one and dataclasses.asdict(one) for name, one in found.items()}
        for task, found in card.intervals.items()
    }
    content: dict[str, Any] = {
        "metrics.json": card.scores.metrics,
        "per_class.json": card.scores.per_class,
        "per_image.json": _image_rows(card),
        "errors.json": {task: dataclasses.asdict(one) for task, one in card.losses.items()},
        "evaluation.json": {
            "evaluator": card.scores.evaluator,
            "evaluator_version": card.scores.version,
            "images": len(card.file_names),
            "detections": len(card.detections),
            "max_detections": card.max_dets,
            "annotations": os.path.relpath(card.annotations),
            "annotations_sha256": runs.file_hash(card.annotations),
            **about,
            "remarks": list(card.remarks),
            "learnable": card.learnable,
            "confidence": CONFIDENCE,
            "draws": DRAWS,
            "intervals": intervals,
        },
    }
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    (folder / "detections.json").write_text(json.dumps(list(card.detections)))
    with (folder / "pr_curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "iou", "class", "recall", "precision"])
        for curve in card.scores.curves:
            for step, precision in enumerate(curve.precision):
                recall = f"{step / 100:.2f}"
                writer.writerow([curve.task, curve.iou, curve.category, recall, f"{precision:.6g}"])


def _image_rows(card: ScoreCard) -> list[dict[str, Any]]:
    """One row per image; `quality` is the AP of its masks (of its boxes if masks have none)."""
    rows = []
    for found in zip(*card.qualities.values(), strict=True):
        by_task = dict(zip(card.qualities, found, strict=True))
        box = by_task["bbox"]
        mask = by_task.get("segm", box)
        rows.append(
            {
                "image_id": mask.image_id,
                "file_name": card.file_names[mask.image_id],
                "objects": mask.objects,
                "detections": mask.detections,
                "quality": mask.ap if mask.ap is not None else box.ap,
                **{task: {"AP": one.ap, "AP50": one.ap50} for task, one in by_task.items()},
            }
        )
    return rows
