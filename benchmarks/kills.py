"""What `kill -9` costs a running study: five kills of the driver and of workers, then restarts.

A tiny study of two trainings side by side in a folder of its own. After each kill of the driver the
same command is given again; a killed worker is left to Ray. At the end every training must be there
once, no MLflow run may be left RUNNING, and no step before a checkpoint may have been done twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
STEPS, PERIOD = 100, 10
KILLS = ("driver", "worker", "driver", "worker", "driver")


def main() -> None:
    """Kills and prints what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    rng = random.Random(parser.parse_args().seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        print(f"{'kill':8}  {'checkpoints at the kill':>24}  {'first new ones after it':>24}")
        driver = _start(folder)
        for kind in KILLS:
            _wait_for_progress(folder, driver)
            time.sleep(rng.uniform(0.2, 1.5))
            if driver.poll() is not None:
                print(f"{kind:8}  the study was over before it")
                break
            before = _checkpoints(folder)
            if not _kill(kind, driver):
                print(f"{kind:8}  no worker was training")
                continue
            if kind == "driver":
                driver.wait()
                driver = _start(folder)
            after = _next_checkpoints(folder, before, driver)
            print(f"{kind:8}  {_text(before):>24}  {_text(after):>24}", flush=True)
        code = driver.wait()
        _report(folder, code)


def _prepare(folder: Path) -> None:
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    params = yaml.safe_load((REPOSITORY / "profiles/sample.yaml").read_text())
    params["dataset"]["sample"] |= {"train_images": 16, "val_images": 4}
    params["train"] |= {
        "images_per_step": 2,
        "workers": 0,
        "checkpoint_period": PERIOD,
        "warmup_steps": 1,
    }
    study = {"question": "?", "baseline": "a", "seeds": [0], "steps": STEPS}
    key = "MODEL.CONDINST.MASK_OUT_STRIDE"
    params["ablations"] = {"kills": {**study, "variants": {"a": {key: 8}, "b": {key: 4}}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for verb in ("acquire", "prepare"):
        subprocess.run([sys.executable, REPOSITORY / "cli.py", verb], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def _start(folder: Path) -> subprocess.Popen[bytes]:
    log = (folder / "log.txt").open("ab")
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, REPOSITORY / "cli.py", "ablate", "kills", "--jobs", "2"]
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)


def _checkpoints(folder: Path) -> dict[str, int]:
    """Training -> steps of its newest checkpoint, finished trainings with all steps."""
    found = {}
    for run in sorted(folder.glob(".runs/*/checkpoints")):
        steps = [int(path.stem.split("_")[1]) for path in run.glob("step_*.pth")]
        found[run.parent.name[:4]] = max(steps, default=0)
    return found


def _wait_for_progress(folder: Path, driver: subprocess.Popen[bytes]) -> None:
    former = _checkpoints(folder)
    while driver.poll() is None and sum(_checkpoints(folder).values()) <= sum(former.values()):
        time.sleep(0.05)


def _next_checkpoints(
    folder: Path, before: dict[str, int], driver: subprocess.Popen[bytes]
) -> dict[str, int]:
    """The first checkpoint of each unfinished training that is newer than before."""
    after: dict[str, int] = {}
    open_ones = {run for run, steps in before.items() if steps < STEPS}
    while driver.poll() is None and not open_ones <= set(after):
        for run, steps in _checkpoints(folder).items():
            if steps > before.get(run, 0):
                after.setdefault(run, steps)
        time.sleep(0.02)
    return after


def _kill(kind: str, driver: subprocess.Popen[bytes]) -> bool:
    if kind == "driver":
        os.kill(driver.pid, signal.SIGKILL)
        return True
    workers = [
        process
        for process in psutil.Process(driver.pid).children(recursive=True)
        if "run_group" in " ".join(process.cmdline())
    ]
    if workers:
        workers[0].kill()
    return bool(workers)


def _text(checkpoints: dict[str, int]) -> str:
    return ", ".join(f"{run}: {steps}" for run, steps in checkpoints.items()) or "-"


def _report(folder: Path, code: int) -> None:
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    sys.path.insert(0, str(REPOSITORY))
    from pipeline import tracking
    from pipeline.params import load_params

    results = json.loads(Path("outputs/ablate/kills/results.json").read_text())
    print(f"exit status of the last command: {code}")
    for run in results["runs"]:
        print(f"{run['variant']}: {run['state']} {run['error']}, {run['steps']} steps, ", end="")
        print(f"mask AP {run['metrics'].get('segm', {}).get('AP')}")
    store = tracking.connect(load_params().tracking)
    assert store is not None
    found = store.client.search_runs([store.experiment_id])
    for run in found:
        points = store.client.get_metric_history(run.info.run_id, "total_loss")
        steps = sorted({point.step for point in points})
        print(f"MLflow run {run.info.run_name}: {run.info.status}, losses of steps {steps}")


if __name__ == "__main__":
    main()
