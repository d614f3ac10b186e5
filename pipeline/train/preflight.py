"""Refuse what cannot work before the first step, not after a night of training."""

from __future__ import annotations

from detectron2.config import CfgNode

from condinst.errors import UserError
from condinst.modeling.backbone.timm_backbone import check_backbone

# Learning rates further than this from the recipe's, by the linear scaling rule, hardly ever train.
_FACTOR = 20.0
_BATCH_NORMS = ("BN", "SyncBN", "NaiveSyncBN")


def check(
    cfg: CfgNode,
    reference: CfgNode,
    *,
    classes: int | None,
    workers: int,
    skip_preflight: bool,
    asked_classes: int | None = None,
) -> list[str]:
    """Look for anything that would make a training pointless.

    Args:
        cfg: the resolved config.
        reference: the recipe as written.
        classes: of the data; None if unknown.
        workers: processes that share a step.
        skip_preflight: continue anyway.
        asked_classes: ``MODEL.FCOS.NUM_CLASSES`` if the user has set it.

    Returns:
        What was found, if ``skip_preflight`` is set.

    Raises:
        UserError: something was found; a backbone that cannot work is always refused.
    """
    check_backbone(cfg)
    found = [
        text
        for text in (
            _single_images(cfg, workers),
            _classes(cfg, asked_classes, classes),
            _learning_rate(cfg, reference),
        )
        if text
    ]
    if found and not skip_preflight:
        rows = "\n".join(f"  - {text}" for text in found)
        raise UserError(
            f"this training would most likely fail:\n{rows}\n"
            "To train anyway: --skip-preflight, or train.skip_preflight: true in params.yaml"
        )
    return [f"preflight skipped: {text}" for text in found]


def _single_images(cfg: CfgNode, workers: int) -> str:
    """Statistics of single-image batches cannot train a network from random weights."""
    at_once = cfg.SOLVER.IMS_PER_BATCH // workers // cfg.SOLVER.ACCUMULATE
    if cfg.SOLVER.SYNC_BN:
        at_once *= workers
    norm = cfg.MODEL.RESNETS.NORM
    if cfg.MODEL.BACKBONE.NAME.startswith("timm/"):
        norm = cfg.MODEL.TIMM.NORM
    if norm == "SyncBN":
        at_once *= 1 if cfg.SOLVER.SYNC_BN else workers
    if cfg.MODEL.WEIGHTS or at_once > 1 or norm not in _BATCH_NORMS:
        return ""
    return (
        f"{cfg.SOLVER.IMS_PER_BATCH} images per step over {workers} processes and "
        f"{cfg.SOLVER.ACCUMULATE} micro-batches are one image at a time, too few for batch norm "
        "in a backbone with random weights; use more images per step, pretrained weights "
        "(model.weights), train.sync_bn, or GN (MODEL.RESNETS.NORM)"
    )


def _classes(cfg: CfgNode, asked: int | None, classes: int | None) -> str:
    wrong = [n for n in (cfg.MODEL.FCOS.NUM_CLASSES, asked) if n not in (classes, None)]
    if classes is None or not wrong:
        return ""
    return (
        f"MODEL.FCOS.NUM_CLASSES = {wrong[0]}, but the data has {classes} classes; leave the key "
        f"out or set it to {classes}"
    )


def _learning_rate(cfg: CfgNode, reference: CfgNode) -> str:
    ours, theirs = cfg.SOLVER, reference.SOLVER
    if theirs.get("OPTIMIZER") != ours.get("OPTIMIZER"):
        return ""
    usual = theirs.BASE_LR * ours.IMS_PER_BATCH / theirs.IMS_PER_BATCH
    factor = ours.BASE_LR / usual
    if 1 / _FACTOR <= factor <= _FACTOR:
        return ""
    return (
        f"the learning rate {ours.BASE_LR:g} is {factor:.3g} times what the recipe gives for "
        f"{ours.IMS_PER_BATCH} images per step ({usual:g}); leave train.lr null to use that"
    )


def classes_of(names: tuple[str, ...]) -> int | None:
    """Number of classes of registered datasets; None if unknown."""
    from detectron2.data import MetadataCatalog

    found = MetadataCatalog.get(names[0]).get("thing_classes", None) if names else None
    return len(found) if found else None
