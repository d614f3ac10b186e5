"""Repeat the step at which a training stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import nn

from condinst.config import memory_format
from condinst.engine.batches import seed_everything
from condinst.engine.buffers import load_buffers
from condinst.engine.micro_batches import split
from condinst.engine.optim import Precision
from condinst.engine.trainer import MODEL_STREAM
from condinst.errors import UserError
from condinst.layers.memory_format import to_channels_last
from condinst.layers.threads import limited


class Replay(NamedTuple):
    """The outcome.

    Attributes:
        step: its number.
        recorded: losses in the training.
        losses: losses now.
        bad_gradients: parameters whose gradient is not finite.
        workers: how many shared the step then; with several, the others had other images.
    """

    step: int
    recorded: dict[str, float]
    losses: dict[str, float]
    bad_gradients: list[str]
    workers: int


def load_dump(path: Path) -> dict[str, Any]:
    """Read a training's dump without executing anything in it.

    Raises:
        UserError: it is missing or not a dump.
    """
    try:
        dump = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except Exception as error:  # a torn file fails in many ways
        raise UserError(f"{path} cannot be read as a dump: {error}") from error
    missing = {"batch", "model", "config", "seed", "iteration"} - set(dump)
    if missing:
        raise UserError(
            f"{path} is not a dump of a training: it has no {', '.join(sorted(missing))}"
        )
    return dump


def replay(
    dump: dict[str, Any], cfg: CfgNode, *, build: Callable[[CfgNode], nn.Module] = build_model
) -> Replay:
    """Repeat a dumped step: forward and backward, without an update.

    Args:
        dump: of :func:`load_dump`.
        cfg: the dump's ``config``, read.
        build: makes the model.
    """
    model = build(cfg)
    model.load_state_dict(dump["model"])
    load_buffers(model, dump["unsaved_buffers"])
    model.train()
    if memory_format(cfg) == "channels_last":
        to_channels_last(model)
    precision = Precision.from_config(cfg)
    batch = [_restored(one) for one in dump["batch"]]
    seed_everything(dump["seed"], dump["iteration"], MODEL_STREAM + dump["rank"])
    losses: dict[str, float] = {}
    threads = limited(cfg.SOLVER.NUM_THREADS)
    with threads, torch.autograd.set_detect_anomaly(cfg.DEBUG.DETECT_ANOMALY):
        for part in split(model, batch, dump["parts"]):
            with precision.autocast(), part.context():
                terms = model(part.batch)
            for name, term in terms.items():
                losses[name] = losses.get(name, 0.0) + term.item() * part.weight
            total = torch.stack(list(terms.values())).sum()
            precision.backward(total * part.weight)
    bad = [
        name
        for name, param in model.named_parameters()
        if param.grad is not None and not param.grad.isfinite().all()
    ]
    recorded = {key: value for key, value in dump["losses"].items() if key.startswith("loss_")}
    return Replay(dump["iteration"], recorded, losses, bad, dump["world_size"])


def _restored(one: dict[str, Any]) -> dict[str, Any]:
    """A model input from the plain values of a dump."""
    plain = one["instances"]
    instances = Instances(tuple(plain["image_size"]))
    for name, value in plain["fields"].items():
        if name.endswith("boxes"):
            instances.set(name, Boxes(value))
        elif name == "gt_masks" and isinstance(value, torch.Tensor):
            instances.set(name, BitMasks(value))
        elif name == "gt_masks":
            instances.set(name, PolygonMasks([[p.numpy() for p in polygons] for polygons in value]))
        else:
            instances.set(name, value)
    return {**one, "instances": instances}
