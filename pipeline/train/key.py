"""The identity of the training that params ask for."""

from __future__ import annotations

from condinst import engine
from pipeline.identity import Identity, of_training
from pipeline.params import Params
from pipeline.recipe import PreparedData, Recipe, resolve


def run_key(params: Params, data: PreparedData, recipe: Recipe | None = None) -> str:
    """The hash of the training that these params ask for; names its folder in ``.runs``."""
    recipe = recipe or resolve(params, data)
    return identity_of(params, data, recipe).key


def identity_of(params: Params, data: PreparedData, recipe: Recipe) -> Identity:
    """Everything that affects a training; ``recipe`` is what the params resolve to."""
    measuring = params.evaluate
    return of_training(
        recipe.cfg,
        data.hash,
        processes=workers_of(params),
        eval_period=params.train.eval_period or 0,
        measuring={"backend": measuring.backend, "max_detections": measuring.max_detections},
    )


def workers_of(params: Params) -> int | str:
    """How many workers share a step; if that may change, the range."""
    train = params.train
    if train.launcher != "ray":
        return engine.count_workers(train.num_gpus, train.num_processes)
    most = train.num_gpus or train.num_processes
    return most if train.min_workers in (None, most) else f"{train.min_workers} to {most}"
