"""Do the fast mask heads train as well as the readable ones?

Trains twice on the prepared data (`python cli.py prepare`), from one seed, with the backends
``reference`` and ``auto``, evaluates both and prints what lies between them. 200 steps of the
sample take some five minutes in all on two CPU cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._rows import markdown
from condinst import engine
from condinst.errors import UserError
from pipeline.evaluate.stage import evaluate_run
from pipeline.params import Params, load_params
from pipeline.recipe import PreparedData, resolve

TASKS = ("bbox", "segm")


def train(
    params: Params, data: PreparedData, backend: str, folder: Path
) -> tuple[float, dict[str, float]]:
    """Seconds of training, and the AP of each task."""
    keys = {**params.model.overrides, "MODEL.CONDINST.BACKEND": backend}
    params = dataclasses.replace(params, model=dataclasses.replace(params.model, overrides=keys))
    cfg = resolve(params, data).cfg
    cfg.OUTPUT_DIR = str(folder / backend)
    start = time.perf_counter()
    result = engine.train(cfg)
    seconds = time.perf_counter() - start
    found = evaluate_run(
        cfg, result.weights, data.root, folder / backend / "scores", params, progress=False
    )
    return seconds, {task: found[task]["AP"] or 0.0 for task in TASKS}


def main() -> None:
    """Trains and prints; status 1 if the AP differ by more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--limit", type=float, default=1.0, help="of the difference, in AP")
    given = parser.parse_args()
    params = load_params()
    params = dataclasses.replace(params, train=dataclasses.replace(params.train, steps=given.steps))
    try:
        data = PreparedData.load()
    except UserError as error:
        sys.exit(str(error))
    data.register()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for backend in ("reference", "auto"):
            found[backend] = train(params, data, backend, Path(name))
    rows = [
        (backend, f"{seconds:.0f}", *(f"{scores[task]:.2f}" for task in TASKS))
        for backend, (seconds, scores) in found.items()
    ]
    apart = [found["auto"][1][task] - found["reference"][1][task] for task in TASKS]
    rows.append(("auto - reference", "", *(f"{x:+.2f}" for x in apart)))
    title = f"{given.steps} steps on {data.name}, seed {params.train.seed}"
    markdown(title, ("backend", "seconds of training", "bbox AP", "segm AP"), rows)
    if max(map(abs, apart)) > given.limit:
        sys.exit(f"The AP differ by more than {given.limit}")


if __name__ == "__main__":
    main()
