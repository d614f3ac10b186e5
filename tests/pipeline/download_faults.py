"""Everything that can go wrong with a download, each fault with the outcome that is allowed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from condinst import download
from condinst.download import Patience
from condinst.errors import UserError
from pipeline import disk
from pipeline.acquire import archive
from tests.condinst.download.faulty_host import CONTENT, MD5, Host

PATIENCE = Patience(first_wait=0, attempts=3)
WHOLE = "whole file"

Members = dict[str, bytes]


@dataclass(frozen=True)
class Fault:
    """A fault and what must come of it.

    Attributes:
        name: in a few words.
        outcome: :data:`WHOLE`, or what the error must say.
        arrange: makes the host behave so.
        change: of what is asked of the host.
        members: of a zip to be unpacked, where the fault is in there.
        patience: with the host.
    """

    name: str
    outcome: str
    arrange: Callable[[Host], None] = lambda host: None
    change: Callable[[download.RemoteFile], download.RemoteFile] = lambda remote: remote
    members: Members | None = None
    patience: Patience = PATIENCE


def _set(**values: object) -> Callable[[Host], None]:
    def arrange(host: Host) -> None:
        for name, value in values.items():
            setattr(host, name, value)

    return arrange


def _asks(**values: object) -> Callable[[download.RemoteFile], download.RemoteFile]:
    return lambda remote: dataclasses.replace(remote, **values)


def _moved(remote: download.RemoteFile) -> download.RemoteFile:
    return dataclasses.replace(remote, url=remote.url.replace("/file", "/moved"))


FAULTS = (
    Fault("none", WHOLE),
    Fault("connection cut after every 4,000 bytes", WHOLE, _set(cut=4000)),
    Fault("connection cut before the first byte", "gave up after 3 attempts", _set(cut=0)),
    Fault("ranges not understood", WHOLE, _set(ranges=False)),
    Fault("wrong Content-Range", "the server sends from byte", _set(shift=5)),
    Fault("503 twice, then fine", WHOLE, _set(failures=2)),
    Fault("503 for ever", "gave up after 3 attempts", _set(failures=10**6)),
    Fault("404", "answers 404", _set(files={})),
    Fault("redirect", WHOLE, lambda host: host.files.update({"/moved": b""}), _moved),
    Fault("a corrupted byte, once", WHOLE, _set(corrupted=1)),
    Fault("a corrupted byte, always", "md5 is ", _set(corrupted=10**6)),
    Fault(
        "truncated on the host", "the server has 9,000 bytes", _set(files={"/file": CONTENT[:9000]})
    ),
    Fault("another file of the same size", "md5 is ", _set(files={"/file": CONTENT[::-1]})),
    Fault(
        "slow drip",
        "bytes a second",
        _set(drip=0.02),
        patience=dataclasses.replace(PATIENCE, window=0.2),
    ),
    Fault(
        "silence",
        "no byte for 0.3 seconds",
        _set(drip=2.0),
        patience=dataclasses.replace(PATIENCE, timeout=0.3),
    ),
    Fault("no host", "gave up after 3 attempts", change=_asks(url="http://127.0.0.1:9/file")),
    Fault("disk too small", "make room for"),
    Fault("disk full on the way", "No space left"),
    Fault("member with ../", "leaves the folder", members={"a": b"1", "../b": b"2"}),
    Fault("member with an absolute path", "leaves the folder", members={"/b": b"2"}),
    Fault("archive torn", "or is damaged", members={}),
)


def outcome(fault: Fault, folder: Path) -> str:
    """What comes of a fault; an assertion fails if it is a wrong file.

    Args:
        fault: to bring about, on a host of this machine.
        folder: empty.
    """
    path = folder / "file"
    with Host() as host:
        fault.arrange(host)
        remote = fault.change(download.RemoteFile(f"{host.url}/file", len(CONTENT), MD5))
        try:
            if fault.members is not None:
                return _unpacked(fault.members, folder)
            if fault.name == "disk too small":
                disk.check_space(folder, 10**18, "the file")
            with _full_disk() if fault.name == "disk full on the way" else contextlib.nullcontext():
                download.fetch(remote, path, patience=fault.patience, piece=5000)
        except (UserError, OSError) as error:
            assert not path.exists(), f"{fault.name}: an error, and a file"
            return str(error).replace(host.url, "http://HOST").replace(str(folder), "FOLDER")
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert found == MD5, f"{fault.name}: a wrong file"
    return WHOLE


def _unpacked(members: Members, folder: Path) -> str:
    zipped = folder / "file.zip"
    with zipfile.ZipFile(zipped, "w") as opened:
        for name, content in members.items():
            opened.writestr(zipfile.ZipInfo(name), content)
    if not members:
        zipped.write_bytes(zipped.read_bytes()[:-5])
    archive.unpack(zipped, folder / "inside")
    return "unpacked"


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    pwrite, os.pwrite = os.pwrite, full
    try:
        yield
    finally:
        os.pwrite = pwrite
