"""The verb `predict`: overlays, COCO-format JSON and masks for a user's own images and videos."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from condinst.errors import UserError
from condinst.files.names import shown
from pipeline.layout import PREPARED, TRAINED
from pipeline.predict.media import Media, Unreadable, Video, VideoSink, find_media, read_image
from pipeline.predict.predictions import Categories, PredictionSink, PredictResult
from pipeline.starting import importing

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from rich.progress import Progress

    from condinst.files.pixels import Ranges
    from condinst.inference.predictor import Predictor

T = TypeVar("T")


def run_predict(
    config_file: str | Path | None = None,
    weights: str | Path | None = None,
    inputs: Sequence[str | Path] = (),
    output: str | Path = "outputs/predict",
    *,
    score_threshold: float = 0.5,
    batch_size: int = 4,
    precision: str = "fp32",
    save_overlays: bool = True,
    save_json: bool = True,
    save_masks: bool = False,
    overrides: Sequence[str] = (),
) -> PredictResult:
    """Finds instances in images and videos and writes them.

    Args:
        config_file: The recipe; by default that of the last training.
        weights: A file, URL or zoo name; by default those of the last training, or those in
            the recipe.
        inputs: Images, folders, globs, videos.
        output: Folder for ``overlays/``, ``predictions.json`` and ``masks/``.
        score_threshold: Instances below it are left out.
        batch_size: Images that go through the model together.
        precision: Of the convolutions: fp32, bf16, or fp16 on a GPU.
        save_overlays: Whether to draw instances into images and videos.
        save_json: Whether to write a COCO-format JSON: images, annotations with score,
            categories.
        save_masks: Whether to write one PNG per instance.
        overrides: KEY VALUE pairs for the config.

    Raises:
        UserError: There are no inputs or no model; or, after all good inputs were processed, an
            input could not be used.
    """
    _check(score_threshold, batch_size, inputs)
    media = find_media(inputs)
    if not media.images and not media.videos:
        raise UserError(_describe("no input can be used:", media.faults))
    predictor, categories = _load_model(config_file, weights, overrides, score_threshold, precision)
    sink = PredictionSink(Path(output), categories, save_overlays, save_masks)
    faults = [*media.faults, *_predict_all(predictor, media, sink, batch_size)]
    result = sink.finish(save_json)
    _say(result)
    if faults:
        head = f"{result.images} images done, see {result.output}; these inputs cannot be used:"
        raise UserError(_describe(head, faults))
    return result


def _check(score_threshold: float, batch_size: int, inputs: Sequence[str | Path]) -> None:
    if not 0 <= score_threshold <= 1:
        raise UserError(f"score threshold is {score_threshold}, must be from 0 to 1")
    if batch_size < 1:
        raise UserError(f"batch size is {batch_size}, must be at least 1")
    if not inputs:
        raise UserError("no input given: give an image, a folder, a glob or a video")


def _say(result: PredictResult) -> None:
    sys.stdout.write(
        f"{result.instances} instances in {result.images} images, in {result.output}\n"
    )


def _describe(head: str, faults: Sequence[Unreadable]) -> str:
    return "\n".join([head, *(f"  {fault.path}: {fault.reason}" for fault in faults)])


def _load_model(
    config_file: str | Path | None,
    weights: str | Path | None,
    overrides: Sequence[str],
    score_threshold: float,
    precision: str,
) -> tuple[Predictor, Categories]:
    with importing():
        import torch

        from condinst.checkpoint.loading import load_weights
        from condinst.checkpoint.reading import load_checkpoint
        from condinst.checkpoint.zoo import resolve_weights
        from condinst.config import load_config
        from condinst.inference.predictor import Predictor

    trained = config_file is None
    path = TRAINED / "config.yaml" if config_file is None else Path(config_file)
    if trained and not path.is_file():
        raise UserError(f"{path} is missing; run `python cli.py train`, or give --config-file")
    cfg = load_config(str(path), list(overrides))
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    source = str(weights or (TRAINED / "model.pth" if trained else cfg.MODEL.WEIGHTS))
    if not source:
        raise UserError(f"{path} names no weights; give --weights FILE")
    if trained and weights is None and not Path(source).is_file():
        raise UserError(f"{source} is missing; run `python cli.py train`, or give --weights")
    cfg.MODEL.WEIGHTS = ""  # loaded below; the backbone's own are not needed
    file = resolve_weights(source)
    predictor = Predictor(
        cfg,
        file,
        load_weights=load_weights,
        score_threshold=score_threshold,
        precision=precision,
    )
    meta = load_checkpoint(file).get("meta")
    names = meta.get("classes") if isinstance(meta, dict) else None
    return predictor, _categories(cfg, names)


def _categories(cfg: CfgNode, names: Sequence[str] | None) -> Categories:
    """From the weights' own list, the prepared data if it matches, or COCO's 80."""
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    count = cfg.MODEL.FCOS.NUM_CLASSES
    known: list[dict[str, Any]] = [entry for entry in COCO_CATEGORIES if entry["isthing"]]
    prepared = PREPARED / "dataset.json"
    if prepared.is_file():
        listed = json.loads(prepared.read_text())["categories"]
        if names is not None and [entry["name"] for entry in listed] == list(names):
            known = listed
    if names is None and count == len(known):
        names = [entry["name"] for entry in known]
    if names is None or len(names) != count:
        names = [f"class {index}" for index in range(count)]
    if list(names) == [entry["name"] for entry in known]:
        return Categories(tuple(names), tuple(int(entry["id"]) for entry in known))
    return Categories(tuple(names), tuple(range(1, count + 1)))


def _predict_all(
    predictor: Predictor, media: Media, sink: PredictionSink, batch_size: int
) -> list[Unreadable]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    faults: list[Unreadable] = []
    columns = (*Progress.get_default_columns()[:1], BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        if media.images:
            task = progress.add_task("images", total=len(media.images))
            decoded = _decodable(media.images, predictor.ranges, faults)
            for batch in _batches(decoded, batch_size):
                found = predictor([image for _, image in batch])
                for (path, image), instances in zip(batch, found, strict=True):
                    sink.add_image(path, image, instances)
                failed = len(faults)
                progress.update(task, completed=sink.images + failed)
            progress.update(task, completed=len(media.images))
        for path in media.videos:
            try:
                _predict_video(predictor, path, sink, batch_size, progress)
            except ValueError as error:
                faults.append(Unreadable(str(path), str(error)))
    return faults


def _decodable(
    paths: Sequence[Path], ranges: Ranges, faults: list[Unreadable]
) -> Iterator[tuple[Path, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_image(path, ranges)
        except ValueError as error:
            faults.append(Unreadable(str(path), str(error)))


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _predict_video(
    predictor: Predictor, path: Path, sink: PredictionSink, batch_size: int, progress: Progress
) -> None:
    from rich.markup import escape

    video = Video(path)
    task = progress.add_task(escape(shown(path.name)), total=video.expected_frames or None)
    name = sink.unique_name(path)
    number = 0
    with VideoSink(sink.overlay_path(name, ".mp4"), video.frames_per_second) as overlay:
        for batch in _batches(video.frames(), batch_size):
            for frame, instances in zip(batch, predictor(batch), strict=True):
                drawn = sink.add(f"{name}_{number:06d}", f"{path}#{number}", frame, instances)
                if sink.save_overlays:
                    overlay.write(drawn)
                number += 1
            progress.update(task, completed=number)
    if not number:
        raise ValueError("no frame of the video can be decoded")
