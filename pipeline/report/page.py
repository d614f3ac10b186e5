"""Puts the report's parts together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from pipeline.params import Params, as_dict
from pipeline.report import curves, data, pictures, scores, sheets, studies, sweep, threshold, words
from pipeline.report.collect import Findings, Missing, Record

Charts = list[tuple[str, Markup]]
_SAMPLES = 12
_BOUNDARY = (
    "Boundary: matched by the lesser of the IoU of masks and that of the bands along their "
    "contours (arXiv 2103.16562)."
)
_LARGE = 100_000_000  # bytes of JSON that some images are not worth reading


@dataclass(frozen=True)
class Card:
    """A big figure at the top."""

    what: str
    figure: str
    unit: str = ""
    how: str = ""
    main: bool = False


@dataclass(frozen=True)
class Page:
    """All that the templates need."""

    title: str
    eyebrow: str
    lead: list[str]
    cards: list[Card]
    sections: list[tuple[str, str]]
    missing: list[Missing]
    missing_studies: list[Missing]
    no_studies: str
    lacks: Mapping[str, Missing | None]
    pairs: list[tuple[str, list[pictures.Pair]]]
    pairs_rule: str
    scores: list[scores.ScoreRow]
    score_columns: list[str]
    boundary_note: str
    measured: str
    interval_note: str
    errors: list[scores.ErrorRow]
    classes: list[scores.ClassRow]
    classes_counted: bool
    pr: Charts
    losses: Charts
    losses_pale: bool
    sides: Charts
    studies: list[studies.StudyView]
    sweep: sweep.SweepView | None
    split_columns: list[str]
    splits: list[data.SplitRow]
    data_remarks: list[str]
    data_charts: Charts
    samples: list[pictures.Picture]
    sheets: list[pictures.Picture]
    facts: list[tuple[str, list[tuple[str, str]]]]
    code_facts: tuple[str, ...]
    commands: str
    params_text: str
    written: str


def build(found: Findings, params: Params) -> Page:
    """Makes all parts; those whose input is missing are empty."""
    val = pictures.Split.load(found, "val")
    pairs, rule = picture_pairs(found, val, params)
    views = studies.study_views(found)
    searched = sweep.sweep_view(found)
    columns, rows = data.split_rows(found)
    classes = scores.class_rows(found)
    sections = [
        ("pictures", "Predictions"), ("scores", "Scores"), ("training", "Training"),
        ("ablations", "Ablations"), *([("sweep", "Sweep")] if searched else []),
        ("data", "Data"), ("run", "What ran"),
    ]  # fmt: skip
    stages = ("acquire", "prepare", "train", "evaluate", "compare")
    return Page(
        title=_title(found, params),
        eyebrow=f"CondInst Lab · profile {params.profile} · {words.today()}",
        lead=lead(found, params),
        cards=cards(found),
        sections=sections,
        missing=found.missing,
        missing_studies=[part for part in found.missing if " ablate " in part.command],
        no_studies="" if params.ablations else "params.yaml asks for no ablation study.",
        lacks={stage: found.lacks(f"python cli.py {stage}") for stage in stages},
        pairs=pairs,
        pairs_rule=rule,
        scores=scores.score_rows(found),
        score_columns=list(scores.WORDS.values()),
        boundary_note=_BOUNDARY if found.metrics.get("boundary") else "",
        measured=_measured(found.evaluation),
        interval_note=_interval_note(found.evaluation),
        errors=scores.error_rows(found),
        classes=classes,
        classes_counted=any(row.objects is not None for row in classes),
        pr=scores.pr_charts(found),
        losses=curves.loss_charts(found.curve),
        losses_pale=len(found.curve) > 40,
        sides=curves.side_charts(found.curve),
        studies=views,
        sweep=searched,
        split_columns=columns,
        splits=rows,
        data_remarks=found.dataset.get("remarks") or [],
        data_charts=data.data_charts(found),
        samples=_samples(found, val, params),
        sheets=sheets.sheets(found),
        facts=facts(found, params),
        code_facts=("commit", "content hash", "run", "weights sha256", "code"),
        commands=_commands(found, params),
        params_text=yaml.safe_dump(as_dict(params), sort_keys=False, allow_unicode=True),
        written=words.today(),
    )


def _title(found: Findings, params: Params) -> str:
    name = found.dataset.get("name") or params.dataset.name
    return f"CondInst on {name}"


def lead(found: Findings, params: Params) -> list[str]:
    """The report in a few sentences, the most important first."""
    sentences = []
    mask, edge, box = (scores.score(found, task, "AP") for task in scores.WORDS)
    images = data.splits(found).get("val", {}).get("images")
    if mask.value is not None:
        where = f" on {words.several(images, 'validation image')}" if images else ""
        known = "" if edge.value is None else f", boundary AP {words.percent(edge.value)}"
        sentences.append(
            f"Mask AP {words.percent(mask.value)}{known} and box AP {words.percent(box.value)}"
            f"{where}."
        )
        sentences += [_sentence(remark) for remark in found.evaluation.get("remarks") or ()]
    if found.run:
        train_images = data.splits(found).get("train", {}).get("images")
        on = f" on {words.several(train_images, 'image')}" if train_images else ""
        start = "from random weights" if params.model.weights is None else "from given weights"
        sentences.append(
            f"Trained {start}{on} for {words.several(found.run['steps'], 'step')} in "
            f"{words.duration(found.run['seconds'])}{_machine(found.environment)}."
        )
    if not sentences:
        sentences.append("The main training has not been run yet.")
    return sentences


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _machine(environment: Record) -> str:
    if environment.get("gpus"):
        gpus = environment["gpus"]
        return f" on {len(gpus)} x {gpus[0]}" if len(gpus) > 1 else f" on one {gpus[0]}"
    if environment.get("cores"):
        return f" on a CPU of {words.several(environment['cores'], 'core')}"
    return ""


def cards(found: Findings) -> list[Card]:
    """The figures that people look for first."""
    made = []
    for task, word in scores.WORDS.items():
        one = scores.score(found, task, "AP")
        if one.value is not None:
            how = "IoU 0.50 to 0.95"
            if one.low is not None and one.high is not None:
                how = f"interval {words.span(one.low, one.high)}"
            made.append(Card(f"{word} AP", words.percent(one.value), "%", how, task == "segm"))
    half = scores.score(found, "segm", "AP50")
    if half.value is not None and scores.score(found, "boundary", "AP").value is None:
        made.append(Card("mask AP50", words.percent(half.value), "%", "found, roughly outlined"))
    if found.run:
        steps = words.several(found.run["steps"], "step")
        made.append(Card("training", *_clock(found.run["seconds"]), steps))
        speed = [row["images_per_s"] for row in found.curve if "images_per_s" in row]
        if speed:
            middle = sorted(speed)[len(speed) // 2]
            made.append(Card("speed", f"{middle:.3g}", "img/s", "in training, median"))
    return made


def _clock(seconds: float) -> tuple[str, str]:
    """`5:52` and `min`: a time span as a big number and its unit."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}", "s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}", "min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}", "h"


def picture_pairs(
    found: Findings, val: pictures.Split | None, params: Params
) -> tuple[list[tuple[str, list[pictures.Pair]]], str]:
    """Best, worst and random images; empty where something for them is missing."""
    quality = image_quality(found.per_image)
    if val is None or not quality:
        return [], ""
    drawn, rule = threshold.worth_drawing(found.detections, val.truth)
    quality = {k: v for k, v in quality.items() if k in val.images and val.objects(k)}
    wanted = params.report
    chosen = pictures.choose(quality, wanted.best, wanted.worst, wanted.random, wanted.seed)
    groups = []
    for kind, ids in chosen.items():
        made = [
            pictures.make_pair(
                val, number, drawn.get(number, []), f"mask AP {quality[number]:.0f}", f"{kind}_{k}"
            )
            for k, number in enumerate(ids, start=1)
        ]
        pairs = [pair for pair in made if pair is not None]
        if pairs:
            groups.append((kind.capitalize(), pairs))
    return groups, rule


def image_quality(per_image: Any) -> dict[int, float]:
    """Image id to the AP of its masks in percent."""
    rows = per_image.get("images", []) if isinstance(per_image, dict) else per_image or []
    return {
        int(row["image_id"]): float(row["quality"])
        for row in rows
        if row.get("quality") is not None
    }


def _samples(found: Findings, val: pictures.Split | None, params: Params) -> list[pictures.Picture]:
    path = found.layout.prepared / "train/annotations.json"
    large = path.is_file() and path.stat().st_size > _LARGE
    split = val if large else pictures.Split.load(found, "train")
    return pictures.sample_pictures(split, _SAMPLES, params.report.seed) if split else []


def _measured(evaluation: Record) -> str:
    name, version = evaluation.get("evaluator"), evaluation.get("evaluator_version")
    return f"{name} {version}" if name and version else name or ""


def _interval_note(evaluation: Record) -> str:
    if not evaluation.get("intervals"):
        return ""
    share, draws = evaluation.get("confidence", 0.95), evaluation.get("draws")
    how = f"by {draws:,} bootstrap draws of the images" if draws else "by bootstrap over the images"
    return f"Small figures: {share:.0%} interval {how}; the luck of the training is not in it."


def facts(found: Findings, params: Params) -> list[tuple[str, list[tuple[str, str]]]]:
    """What ran, in groups of name and value; unknown ones are left out."""
    run, env, evaluation = found.run, found.environment, found.evaluation
    train, packages = params.train, found.environment.get("packages") or {}
    device = ", ".join(env.get("gpus") or []) or (
        f"CPU, {words.several(env['cores'], 'core')}" if env.get("cores") else ""
    )
    groups = [
        (
            "Experiment",
            [
                ("profile", params.profile),
                ("recipe", params.model.config),
                ("overrides", ", ".join(f"{k} = {v}" for k, v in params.model.overrides.items())),
                ("start", str(params.model.weights or "random weights")),
                ("seed", str(run.get("seed", train.seed))),
                ("steps", words.count(run["steps"]) if run else ""),
                ("images a step", str(train.images_per_step or "")),
                ("learning rate", str(train.lr or "")),
                ("training time", words.duration(run["seconds"]) if run else ""),
            ],
        ),
        (
            "Provenance",
            [
                ("commit", run.get("git_commit") or ""),
                ("dataset", found.dataset.get("name") or ""),
                ("source", found.manifest.get("source") or ""),
                ("content hash", found.dataset.get("hash") or ""),
                ("run", run.get("hash") or ""),
                ("weights sha256", evaluation.get("weights_sha256") or ""),
                ("evaluator", _measured(evaluation)),
            ],
        ),
        (
            "Environment",
            [
                ("device", device),
                ("system", env.get("platform") or ""),
                ("Python", env.get("python") or ""),
                ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
                ("code", env.get("code") or ""),
            ],
        ),
    ]
    kept = [(title, [(name, value) for name, value in rows if value]) for title, rows in groups]
    return [(title, rows) for title, rows in kept if rows]


def _commands(found: Findings, params: Params) -> str:
    commit = (found.run.get("git_commit") or "").removesuffix("-dirty")
    first = [f"git checkout {commit[:12]}"] if commit else []
    return "\n".join([*first, f"python cli.py profile use {params.profile}", "make repro"])
