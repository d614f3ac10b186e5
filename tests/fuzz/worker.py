"""A process that forks for each hostile file: `python -m tests.fuzz.worker KIND ...`.

Everything heavy is imported once. The fork reads the file under limits of memory and time; whatever
becomes of it, the worker lives on. Asked with ``{"kind", "name", "path"}``, it answers with a line:

- ``outcome``: ``used``, ``refused`` (by a message, as the command line prints it), ``fault``.
- ``text``: the message, or what went wrong.
- ``memory``: bytes that the fork's resident memory grew by at most.
- ``seconds``: of processor time, which a busy machine does not change.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from tests.fuzz import targets

MEMORY = 1 << 30  # bytes of address space beyond what the imports take
SECONDS = 10  # of processor time
_HANGS = 300.0  # seconds by the clock
_PAGE = resource.getpagesize()

Answer = dict[str, Any]


def main() -> None:
    """Answer until the pipe closes."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    targets.load(sys.argv[1:])
    answers.write(json.dumps({"ready": _pages(1)}) + "\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(answer(asked["kind"], asked["name"], Path(asked["path"]))) + "\n")
        answers.flush()


def answer(kind: str, name: str, path: Path) -> Answer:
    """Read one file in a fork."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(kind, name, path, folder, writer)
    os.close(writer)
    try:
        text = _receive(reader, began + _HANGS)
    finally:
        os.close(reader)
    if text is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    nothing = {"outcome": "fault", "memory": 0, "seconds": 0}
    if text is None:
        return {**nothing, "text": f"hangs for {_HANGS:g} s"}
    if os.WIFSIGNALED(status) or not text:
        code = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        late = code in (signal.SIGXCPU, signal.SIGKILL)
        return {**nothing, "text": f"over {SECONDS} s" if late else f"signal {code}"}
    return json.loads(text)


def _receive(reader: int, until: float) -> str | None:
    """All that the fork writes; None if it takes too long."""
    found = b""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        block = os.read(reader, 1 << 16)
        if not block:
            return found.decode()
        found += block


def _child(kind: str, name: str, path: Path, folder: Path, writer: int) -> None:
    try:
        limit = _pages(0) + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))
        before = _pages(1)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            outcome, text = _read(kind, name, path, folder)
        # of a fork the kernel counts from its own beginning
        used = resource.getrusage(resource.RUSAGE_SELF)
        found = {
            "outcome": outcome,
            "text": text,
            "memory": max(used.ru_maxrss * 1024 - before, 0),
            "seconds": used.ru_utime + used.ru_stime,
        }
        os.write(writer, json.dumps(found).encode())
    finally:
        os._exit(0)


def _read(kind: str, name: str, path: Path, folder: Path) -> tuple[str, str]:
    from condinst.errors import UserError

    os.chdir(folder)
    try:
        targets.TARGETS[kind](name, path, folder)
    except (UserError, OSError) as error:  # what the command line turns into a message
        text = str(error)
        if not text.strip():
            return "fault", f"a message without words: {error!r}"
        return "refused", text[:2000]
    except BaseException:
        return "fault", traceback.format_exc()[-6000:]
    return "used", ""


def _pages(column: int) -> int:
    """Bytes of address space (0) or of resident memory (1)."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * _PAGE


if __name__ == "__main__":
    main()
