"""Which memory format trains a recipe faster on this CPU: measured once, kept in the user's cache.

It changes no meaning, only the last bits, so the decision becomes part of a training's settings
(`train.memory_format`) and of its hash. A training that has begun keeps the format it began with.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from condinst import engine
from condinst.atomic import write_json
from condinst.checkpoint.zoo import user_folder
from condinst.cores import available_cores, processor_name
from condinst.engine.optim import Precision
from condinst.layers.memory_format import to_channels_last
from condinst.layers.threads import limited
from condinst.timing import in_turns
from pipeline import runs
from pipeline.params import Params, override
from pipeline.recipe import PreparedData, resolve
from pipeline.train.key import run_key

KEY = "train.memory_format"
FORMATS = ("channels_last", "contiguous")
_SECONDS = 20.0  # after which no further round begins
_ROUNDS = 5
_PIXELS = 2 * 800 * 1344  # of the images that are tried at once, and at least one image
_SHAPE = ("BACKBONE", "RESNETS", "TIMM", "FPN", "BIFPN", "FCOS")  # of MODEL: what takes the time


def settled(params: Params, data: PreparedData) -> Params:
    """Replace ``auto`` by what was decided here; without a decision it stays."""
    cfg = _undecided(params, data)
    if cfg is None:
        return params
    found = read().get(_key(cfg, params), {}).get("chosen")
    return override(params, {KEY: found}) if found in FORMATS else params


def tune(params: Params, data: PreparedData, *, again: bool = False) -> bool:
    """Measure both formats, if ``auto`` asks for it and it is not known yet.

    Args:
        params: of a training.
        data: its first images are used, as its loader gives them.
        again: even if it is known, or a training has begun.

    Returns:
        Whether there is a decision that there was not before.
    """
    cfg = _undecided(params, data)
    if cfg is None:
        return False
    key = _key(cfg, params)
    if key in read() and not again:
        return False
    begun = "" if again else _begun(params, data)
    row: dict[str, Any] = {"recipe": params.model.config, **_machine()}
    row["threads"] = cfg.SOLVER.NUM_THREADS
    if begun:
        row |= {"chosen": begun, "why": "a training had begun with it"}
        _say(f"memory format: {begun}, as the training here that goes on")
    else:
        try:
            times = measure(cfg, data, _images(cfg, params))
        except (RuntimeError, MemoryError) as error:  # the training itself may use less memory
            _say(f"memory format: {cfg.SOLVER.MEMORY_FORMAT}, as neither could be tried: {error}")
            return False
        first, second = sorted(times, key=times.__getitem__)
        row |= {"chosen": first, "seconds": times, "measured": time.strftime("%Y-%m-%d")}
        _say(
            f"memory format: {first}, {times[second] / times[first]:.2f} times as fast as {second} "
            f"({times[first]:.3g} and {times[second]:.3g} s a step), kept in {cache()}"
        )
    write_json(cache(), {**read(), key: row})
    return True


def measure(cfg: CfgNode, data: PreparedData, images: int) -> dict[str, float]:
    """Median seconds of a forward and backward pass of random weights in each format.

    Args:
        cfg: of the training.
        data: its first images are used.
        images: that one process computes at once; fewer if they are large.
    """
    data.register()
    batch = _batch(cfg, images)
    _say("memory format: trying both for some steps, once on this machine")
    with limited(cfg.SOLVER.NUM_THREADS):
        torch.manual_seed(0)
        steps = {name: _step(cfg, name, batch) for name in FORMATS}
        for step in steps.values():  # compiles loops, packs weights
            step()
        taken = in_turns(steps, _ROUNDS, _SECONDS)
    return {name: statistics.median(times) for name, times in taken.items()}


def read() -> dict[str, Any]:
    """All decisions; none if the file is missing, and none but a note if it is damaged."""
    path = cache()
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not all(isinstance(x, dict) for x in found.values()):
            raise ValueError("no table of decisions")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _say(f"note: {path} is ignored and will be replaced: {error}")
        return {}
    return found


def rows(params: Params, data: PreparedData) -> list[tuple[str, ...]]:
    """Decisions of this machine for people: recipe, threads, format, seconds of each, when."""
    cfg, here, mine = _undecided(params, data), _machine(), []
    now = "" if cfg is None else _key(cfg, params)
    for key, row in read().items():
        if any(row.get(name) != value for name, value in here.items()):
            continue  # of another machine or version of torch that shares the folder
        seconds = row.get("seconds", {})
        times = ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items())
        recipe = f"{row.get('recipe')}{' (params.yaml)' if key == now else ''}"
        chosen, threads = str(row.get("chosen")), str(row.get("threads"))
        mine.append((recipe, threads, chosen, times or row.get("why", ""), row.get("measured", "")))
    return mine


def cache() -> Path:
    """The file of decisions."""
    return user_folder() / "tuning.json"


def _undecided(params: Params, data: PreparedData) -> CfgNode | None:
    """The config, if it is left to us: processes of this machine that compute on its CPU."""
    train = params.train
    here = train.launcher == "processes" and params.ray.address is None and not train.num_gpus
    if train.memory_format != "auto" or not here or engine.torchrun_worker() is not None:
        return None
    recipe = resolve(params, data)
    return recipe.cfg if recipe.any_format else None


def _key(cfg: CfgNode, params: Params) -> str:
    """Identifies machine, version of torch, and all of a recipe that sets the time of a step."""
    shape = {name: cfg.MODEL.get(name) for name in _SHAPE}
    sizes = [cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.CROP]
    solver = [cfg.SOLVER.NUM_THREADS, cfg.SOLVER.AMP, cfg.SOLVER.RECOMPUTE_BACKBONE]
    return runs.digest([_machine(), shape, sizes, solver, _images(cfg, params)])


def _begun(params: Params, data: PreparedData) -> str:
    """The format of a training with these params that has begun; empty if none has, or both."""
    keys = {name: run_key(override(params, {KEY: name}), data) for name in FORMATS}
    there = [name for name, key in keys.items() if (runs.RUNS / key / "config.yaml").is_file()]
    return there[0] if len(there) == 1 else ""


def _batch(cfg: CfgNode, images: int) -> list[dict[str, Any]]:
    from condinst.data.mapper import CondInstDatasetMapper
    from condinst.engine.batches import build_train_loader

    plain = cfg.clone()
    plain.DATALOADER.NUM_WORKERS = 0
    mapper = CondInstDatasetMapper(plain, is_train=True)
    batch = next(iter(build_train_loader(plain, mapper, seed=0)))[:images]
    pixels = max(item["image"].shape[1] * item["image"].shape[2] for item in batch)
    return batch[: max(1, _PIXELS // pixels)]


def _images(cfg: CfgNode, params: Params) -> int:
    return cfg.SOLVER.IMS_PER_BATCH // params.train.num_processes // cfg.SOLVER.ACCUMULATE


def _step(cfg: CfgNode, memory_format: str, batch: Sequence[dict[str, Any]]) -> Callable[[], None]:
    model: nn.Module = build_model(cfg).train()
    if memory_format == "channels_last":
        to_channels_last(model)
    precision = Precision.from_config(cfg)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with precision.autocast():
            losses = model(batch)
        torch.stack([*losses.values()]).sum().backward()

    return step


def _machine() -> dict[str, Any]:
    return {
        "processor": f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": available_cores(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
