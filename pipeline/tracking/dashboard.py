"""MLflow's pages on this machine, with a link that compares the latest runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from condinst.errors import UserError
from pipeline.params import Params
from pipeline.tracking.address import check_answers, compare_url, default_uri
from pipeline.tracking.store import connect

HOST = "127.0.0.1"
LOG = Path(".runs/dashboard.log")
START_SECONDS = 300.0
STOP_SECONDS = 10.0


def serve(params: Params, port: int, say: Callable[[str], object]) -> None:
    """Starts MLflow and waits until Ctrl-C stops it.

    If MLFLOW_TRACKING_URI is a server, there is nothing to start: its address is printed.

    Args:
        params: For the experiment's name.
        port: On this machine.
        say: Prints one line for the user.

    Raises:
        UserError: If the port is in use, the given server does not answer, or MLflow does not
            start.
    """
    uri = default_uri()
    if uri.startswith(("http://", "https://")):
        check_answers(uri)
        _tell(uri, say)
        return
    if not is_free(port):
        raise UserError(
            f"Port {port} is in use on this machine. Use another: "
            f"python cli.py dashboard --port {free_port(port + 1)}"
        )
    connect(dataclasses.replace(params.tracking, enabled=True))
    say("MLflow is starting, which takes about 12 s.")
    with _server(uri, port) as process:
        address = f"http://{HOST}:{port}"
        _await(process, address)
        _tell(address, say)
        say("Ctrl-C stops it.")
        process.wait()
        raise UserError(f"MLflow stopped with status {process.returncode}. {_log_end()}")


def is_free(port: int) -> bool:
    """Whether a server can listen on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(first: int) -> int:
    """The first free port from ``first``; any free one if a hundred are taken."""
    for port in range(first, min(first + 100, 65536)):
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def latest_runs(outputs: Path = Path("outputs")) -> list[tuple[str, str]]:
    """MLflow's run and experiment ids of the trainings in the outputs, the main one first."""
    paths = [outputs / "train" / "run.json"]
    paths += sorted(outputs.glob("ablate/*/*/seed*/train/run.json"))
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(path.read_text())
            if record.get("run_id") and record.get("experiment_id"):
                found.append((record["run_id"], record["experiment_id"]))
    return list(dict.fromkeys(found))


def _tell(address: str, say: Callable[[str], object]) -> None:
    say(f"MLflow: {address}")
    runs = latest_runs()
    if len(runs) > 1:
        link = compare_url(address, [run for run, _ in runs], runs[0][1])
        say(f"Compare the {len(runs)} latest runs: {link}")
    elif not runs:
        say("There are no runs in outputs/ yet: make repro.")


@contextlib.contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow in its own session, stopped with all its workers however this block ends."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # SIGINT too: shells start background processes with SIGINT ignored.
    stops = (signal.SIGTERM, signal.SIGINT)
    former = [signal.signal(number, _interrupt) for number in stops]
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        for number, handler in zip(stops, former, strict=True):
            signal.signal(number, handler)
        _end(process)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"MLflow did not start (status {process.returncode}). {_log_end()}")
        try:
            check_answers(address, timeout=2.0)
        except UserError:
            time.sleep(0.3)
        else:
            return
    raise UserError(f"MLflow did not answer at {address} in {START_SECONDS:.0f} s. {_log_end()}")


def _log_end() -> str:
    lines = LOG.read_text(errors="replace").strip().splitlines()[-5:] if LOG.is_file() else []
    return "\n".join([f"The end of {LOG}:", *lines])
