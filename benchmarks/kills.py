"""What `kill -9` costs a running study: five kills of the driver and of workers, then restarts.

`python -m benchmarks.kills` runs a tiny study of two trainings side by side in a folder of its own.
After each kill of the driver the same command is given again; a killed worker is left to Ray. At
the end every training must be there once and no MLflow run may be left RUNNING. A table says for
each kill which checkpoints there were, and at which step the killed trainings went on; it ends
with status 1 where that was before a checkpoint, or anything else is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
STEPS, PERIOD = 400, 20
KILLS = ("driver", "worker", "driver", "worker", "driver")
_GOES_ON = re.compile(r"resuming from step (\d+) of")
_ROW = "{:>4}  {:8}  {:>32}  {:>18}  {}"


def main() -> None:
    """Kills and prints what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    rng = random.Random(parser.parse_args().seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        print(_ROW.format("kill", "of", "newest checkpoints at the kill", "went on from", "lost"))
        driver = _start(folder)
        good = True
        for number, kind in enumerate(KILLS, start=1):
            _wait_for_progress(folder, driver)
            time.sleep(rng.uniform(0.2, 1.5))
            if driver.poll() is not None:
                sys.exit("the study was over before all kills: give it more steps")
            driver, well = _one_kill(folder, number, kind, driver)
            good &= well
        good &= _report(folder, driver.wait())
    sys.exit(not good)


def _one_kill(
    folder: Path, number: int, kind: str, driver: subprocess.Popen[bytes]
) -> tuple[subprocess.Popen[bytes], bool]:
    """Kill, start again, wait until all train on; the driver, and whether checkpoints held."""
    log = folder / "log.txt"
    written, before = log.stat().st_size, _checkpoints(folder)
    _kill(kind, driver)
    if kind == "driver":
        driver.wait()
        driver = _start(folder)
    _wait_for_newer(folder, before, driver)
    with log.open("rb") as file:
        file.seek(written)
        steps = sorted(int(step) for step in _GOES_ON.findall(file.read().decode()))
    running = sorted(steps for steps in before.values() if steps < STEPS)
    # of one worker killed it is not known which training it had: the earlier one is safe to take
    safe = all(step >= least for step, least in zip(steps, running, strict=False))
    lost = f"steps since the checkpoint, fewer than {PERIOD}" if safe else "MORE than since it"
    went_on = ", ".join(map(str, steps)) or "-"
    print(_ROW.format(number, kind, _text(before), went_on, lost), flush=True)
    return driver, safe and bool(steps)


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
        time.sleep(0.1)


def _wait_for_newer(folder: Path, before: dict[str, int], driver: subprocess.Popen[bytes]) -> None:
    """Until every unfinished training has a newer checkpoint than before."""
    open_ones = {run for run, steps in before.items() if steps < STEPS}
    while driver.poll() is None and open_ones:
        now = _checkpoints(folder)
        open_ones = {run for run in open_ones if now.get(run, 0) <= before[run]}
        time.sleep(0.1)


def _kill(kind: str, driver: subprocess.Popen[bytes]) -> None:
    if kind == "driver":
        os.kill(driver.pid, signal.SIGKILL)
        return
    workers = [
        process
        for process in psutil.Process(driver.pid).children(recursive=True)
        if "run_group" in " ".join(process.cmdline())
    ]
    workers[0].kill()


def _text(checkpoints: dict[str, int]) -> str:
    return ", ".join(f"{run}: {steps}" for run, steps in checkpoints.items()) or "-"


def _report(folder: Path, code: int) -> bool:
    """Print what was left in the end; whether it is as it must be."""
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    sys.path.insert(0, str(REPOSITORY))
    from pipeline import tracking
    from pipeline.params import load_params

    results = json.loads(Path("outputs/ablate/kills/results.json").read_text())
    print(f"exit status of the last command: {code}")
    for run in results["runs"]:
        print(f"variant {run['variant']}: {run['state']}, {run['steps']} steps {run['error']}")
    store = tracking.connect(load_params().tracking)
    assert store is not None
    found = store.client.search_runs([store.experiment_id])
    for run in found:
        points = store.client.get_metric_history(run.info.run_id, "total_loss")
        steps = {point.step for point in points}
        losses = f"losses of {len(steps)} steps up to {max(steps)}" if steps else "the study's own"
        print(f"MLflow run {run.info.run_name}: {run.info.status}, {losses}")
    states = [run.info.status for run in found]
    trained = [run["steps"] for run in results["runs"]]
    return code == 0 and states == ["FINISHED"] * 3 and trained == [STEPS] * 2


if __name__ == "__main__":
    main()
