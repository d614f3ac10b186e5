"""Workers that meet, and what those say that cannot."""

from __future__ import annotations

import csv
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from condinst.engine import TrainResult, check_same, launch, train
from condinst.engine.rendezvous import SECONDS, Worker, torchrun_worker
from condinst.errors import UserError
from tests.condinst.engine.toy import Stop, toy_mapper
from tests.condinst.engine.workers import free_port, run_workers, start_worker, wait_for

MakeConfig = Callable[..., CfgNode]


def nothing() -> None:
    launch(lambda: None)


def test_torchrun_is_recognised(tmp_path: Path) -> None:
    def main() -> None:
        def work() -> None:
            (tmp_path / f"{comm.get_rank()}of{comm.get_world_size()}").touch()

        launch(work, num_processes=7)  # torchrun's number counts

    assert run_workers(main, tmp_path) == ["", ""]
    assert {path.name for path in tmp_path.glob("*of2")} == {"0of2", "1of2"}


def test_several_rounds_of_the_same_workers(tmp_path: Path) -> None:
    def main() -> None:
        for _ in range(2):  # an ablation trains again and again
            launch(comm.synchronize)

    assert run_workers(main, tmp_path) == ["", ""]


@pytest.mark.slow
def test_missing_workers_are_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wait_for([start_worker(0, 3, free_port(), nothing, log, **{SECONDS: "1"})])
    assert "waited 1 s" in log.read_text()
    assert "2 of 3 workers: nothing from rank 1, 2" in log.read_text()


@pytest.mark.slow
def test_no_answer_from_the_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wait_for([start_worker(1, 2, free_port(), nothing, log, **{SECONDS: "1"})])
    assert "rank 1 waited 1 s" in log.read_text()
    assert "for rank 0 at 127.0.0.1" in log.read_text()


@pytest.mark.slow
def test_same_rank_twice(tmp_path: Path) -> None:
    messages = run_workers(nothing, tmp_path, 3, each={2: {"RANK": "1"}})
    assert all("two workers have rank 1" in message for message in messages)


@pytest.mark.slow
def test_other_number_of_workers(tmp_path: Path) -> None:
    messages = run_workers(nothing, tmp_path, each={1: {"WORLD_SIZE": "4"}})
    assert any("workers, others for" in message for message in messages)
    assert all("UserError" in message for message in messages)


def test_port_in_use(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wait_for([start_worker(0, 2, taken.getsockname()[1], nothing, log)])
    assert "port may be in use" in log.read_text()


@pytest.mark.parametrize("rank", [-1, 2])
def test_wrong_rank(rank: int) -> None:
    with pytest.raises(UserError, match=f"rank {rank}: with 2 workers it must be from 0 to 1"):
        Worker(rank, 2, 0, 1, "localhost", 1)


def test_environment_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torchrun_worker() is None
    described = {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    for name, value in described.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="RANK = 'x' must be a whole number"):
        torchrun_worker()


@pytest.mark.parametrize("url", ["http://h:1", "tcp://h", "tcp://h:x", "h:1"])
def test_wrong_address(url: str) -> None:
    with pytest.raises(UserError, match="tcp://HOST:PORT"):
        launch(nothing, num_processes=2, dist_url=url)


def test_configs_that_differ(toy_cfg: MakeConfig, tmp_path: Path) -> None:
    def main() -> None:
        def work() -> None:
            train(toy_cfg("r", "SOLVER.BASE_LR", 0.1 * (1 + comm.get_rank())), mapper=toy_mapper)

        launch(work)

    for message in run_workers(main, tmp_path):
        assert "the config of rank 1" in message
        assert "SOLVER.BASE_LR: 0.2 here, 0.1 there" in message
    assert not (tmp_path / "r").exists()


def test_data_that_differ(tmp_path: Path) -> None:
    def main() -> None:
        launch(lambda: check_same("the data", {"hash": "abcd"[comm.get_rank()]}))

    assert all("the data of rank 1" in message for message in run_workers(main, tmp_path))


class Die(HookBase):
    """The last worker dies before its third step."""

    def before_step(self) -> None:
        if comm.get_rank() == 1 and self.trainer.iter == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def test_dead_worker_ends_the_others(toy_cfg: MakeConfig, tmp_path: Path) -> None:
    def main() -> None:
        launch(lambda: train(toy_cfg("r"), mapper=toy_mapper, hooks=[Die()]))

    first, second = run_workers(main, tmp_path)  # of which none hangs
    assert "the connection to another worker broke" in first
    assert second == ""  # it had no last words


def test_checkpoint_of_another_config_or_size(toy_cfg: MakeConfig, tmp_path: Path) -> None:
    def run(*keys: Any) -> None:
        train(toy_cfg("r", *keys), mapper=toy_mapper, resume=True)

    run("SOLVER.MAX_ITER", 2)
    with pytest.raises(UserError, match=r"BASE_LR: 0.5 here, 0.01 there.*another OUTPUT_DIR"):
        run("SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 0.5)
    run("SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 1)  # decides nothing
    messages = run_workers(lambda: launch(run, ("SOLVER.MAX_ITER", 2)), tmp_path)
    assert all("number of workers: 2 here, 1 there" in message for message in messages)


def test_elastic_training_goes_on_with_other_workers(toy_cfg: MakeConfig, tmp_path: Path) -> None:
    def run(steps: int) -> None:
        keys = ("SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2)
        train(
            toy_cfg("r", *keys), mapper=toy_mapper, resume=True, elastic=True, hooks=[Stop(steps)]
        )

    with pytest.raises(KeyboardInterrupt):
        run(3)
    assert run_workers(lambda: launch(run, (99,)), tmp_path) == ["", ""]
    found = TrainResult.load(tmp_path / "r")
    assert found is not None
    assert (found.start_step, found.steps) == (2, 6)


@pytest.mark.slow
def test_two_workers_resume_to_the_same_curve(toy_cfg: MakeConfig, tmp_path: Path) -> None:
    def run(name: str, *hooks: HookBase) -> None:
        cfg = toy_cfg(name, "SOLVER.MAX_ITER", 9, "SOLVER.CHECKPOINT_PERIOD", 3)
        train(cfg, mapper=toy_mapper, resume=True, hooks=hooks, log_period=4)

    def cut() -> None:
        launch(run, ("whole",))
        with pytest.raises(KeyboardInterrupt):
            launch(run, ("cut", Stop(7)))

    assert run_workers(cut, tmp_path) == ["", ""]
    assert run_workers(lambda: launch(run, ("cut",)), tmp_path) == ["", ""]
    whole, again = (
        [
            {key: value for key, value in row.items() if "loss" in key}
            for row in csv.DictReader((tmp_path / name / "curve.csv").read_text().splitlines())
        ]
        for name in ("whole", "cut")
    )
    assert len(whole) == 3
    assert whole == again
