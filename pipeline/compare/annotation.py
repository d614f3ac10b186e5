"""What it costs to annotate the training set as each variant of a study is shown it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from condinst.errors import UserError
from condinst.files import yamltext
from pipeline import runs
from pipeline.layout import PREPARED
from pipeline.params import Ablation, Compare

_DECIDING = ("INPUT.MASKS.", "MODEL.BOXINST.ENABLED", "MODEL.BOXINST.USE_MASKS", "MODEL.MASK_ON")


@dataclass(frozen=True)
class Annotation:
    """What people would have drawn of a training set.

    Attributes:
        masks: objects of which the mask is drawn, which gives the box as well.
        boxes: objects of which only the box is drawn.
        hours: that both take.
    """

    masks: int
    boxes: int
    hours: float


def costs(
    study: Ablation, folder: Path, settings: Compare, data_hash: object
) -> dict[str, dict[str, Any]]:
    """Variant -> its `Annotation` as plain values; empty unless the variants are shown other masks.

    Objects are counted in the prepared training set. Crowd regions are none.

    Args:
        study: its section of params.yaml.
        folder: what the stage ``ablate`` left.
        settings: with the seconds that a mask and a box take.
        data_hash: of the data that the study was trained on.

    Raises:
        UserError: other data is prepared now, or a training's config.yaml is gone.
    """
    changed = {key for changes in study.variants.values() for key in changes}
    if not any(key.startswith(_DECIDING) for key in changed):
        return {}
    configs = {name: found for name in study.variants if (found := _config(folder / name, study))}
    uses = {name: _use(path) for name, path in configs.items()}
    if len(set(uses.values())) < 2:
        return {}
    there = runs.read_json(PREPARED / "dataset.json", "prepare").get("hash")
    if there != data_hash:
        raise UserError(
            f"{folder.name} was trained on data {data_hash}, {PREPARED} holds {there}: what its "
            "annotations cost cannot be counted; prepare that dataset again"
        )
    counts = _counts(uses)
    return {name: asdict(_annotation(*counts[use], settings)) for name, use in uses.items()}


def _annotation(masks: int, boxes: int, settings: Compare) -> Annotation:
    seconds = masks * settings.mask_seconds + boxes * settings.box_seconds
    return Annotation(masks, boxes, seconds / 3600)


def _config(folder: Path, study: Ablation) -> Path | None:
    """The resolved config of a variant's first training; None if none has run."""
    paths = [folder / f"seed{seed}" / "train/config.yaml" for seed in study.seeds]
    found = next((path for path in paths if path.is_file()), None)
    if found is None and any((path.parent.parent / "evaluate").is_dir() for path in paths):
        raise UserError(f"{paths[0]} is missing; run `python cli.py ablate {folder.parent.name}`")
    return found


def _use(path: Path) -> Any:
    from detectron2.config import CfgNode

    from condinst.data.masks import MaskUse

    return MaskUse.from_config(CfgNode(yamltext.read(path)))


def _counts(uses: Mapping[str, Any]) -> dict[Any, tuple[int, int]]:
    """How masks are used -> objects whose mask is shown, objects of which only the box is used."""
    from condinst.data.index import open_index

    index = open_index(PREPARED / "train")
    single = index.numbers[:, 2] == 0
    masked = index.numbers[index.masked & single, 0].tolist()
    found = {}
    for use in set(uses.values()):
        shown = sum(use.shown({"id": one, "segmentation": True}) for one in masked if use.read)
        boxes = int(single.sum()) - shown
        found[use] = shown, 0 if use.read and not use.boxes_too else boxes
    return found
