"""Downloads against a server of this machine that breaks, lies and forgets."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from condinst import download
from condinst.download import http
from condinst.errors import UserError
from tests.condinst.download.faulty_host import CONTENT, MD5, Host


def remote(host: Host, *, size: int = len(CONTENT), md5: str = MD5) -> download.RemoteFile:
    return download.RemoteFile(f"{host.url}/file", size, md5)


def test_fetches_once(host: Host, tmp_path: Path) -> None:
    told: list[int] = []
    for _ in range(2):
        download.fetch(remote(host), tmp_path / "new/file", advance=told.append)
    assert (tmp_path / "new/file").read_bytes() == CONTENT
    assert sum(told) == 2 * len(CONTENT)
    assert host.asked == [f"bytes=0-{len(CONTENT) - 1}"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def quick(**values: Any) -> http.Patience:
    return http.Patience(first_wait=0, **values)


def test_goes_on_where_the_connection_broke(host: Host, tmp_path: Path) -> None:
    host.cut, told = 4000, list[int]()
    download.fetch(remote(host), tmp_path / "file", advance=told.append, patience=quick())
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert host.asked == ["bytes=0-10239", "bytes=4000-10239", "bytes=8000-10239"]
    assert sum(told) == len(CONTENT)


def test_ranges_arrive_beside_each_other(host: Host, tmp_path: Path) -> None:
    host.cut, told = 300, list[int]()
    download.fetch(
        remote(host), tmp_path / "file", advance=told.append, patience=quick(), piece=1000
    )
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(host.asked) == 10 * 4 + 1  # pieces of 1000 bytes in 4 answers, one of 240
    assert sum(told) == len(CONTENT)


def test_goes_on_after_a_failure_with_what_is_whole(host: Host, tmp_path: Path) -> None:
    host.cut = 2500
    once = quick(attempts=1)
    host.failures = 0

    def stop(count: int, seen: list[int] = []) -> None:  # noqa: B006  # its memory
        seen.append(count)
        if sum(seen) >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(
            remote(host), tmp_path / "file", advance=stop, patience=once, piece=1000, connections=1
        )
    assert download.held(tmp_path / "file") == 4000  # the fifth was not noted yet
    host.asked.clear()
    download.fetch(remote(host), tmp_path / "file", patience=quick(), piece=1000)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(host.asked) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


_CHILD = """
import sys
from pathlib import Path
from condinst import download
url, size, md5, *_, path = sys.argv[1:]
download.fetch(download.RemoteFile(url, int(size), md5), Path(path), piece=500)
"""


@pytest.mark.slow
def test_goes_on_after_kill_9(host: Host, tmp_path: Path, repository: Path) -> None:
    host.drip, values = 0.0002, dataclasses.astuple(remote(host))
    for seen in (1500, 4000, 6500):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *map(str, [*values, tmp_path / "file"])],
            cwd=repository,
        )
        while download.held(tmp_path / "file") < seen and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        assert child.wait() == -signal.SIGKILL, "it was on its way"
        assert not (tmp_path / "file").exists()
    host.drip = 0.0
    host.asked.clear()
    download.fetch(remote(host), tmp_path / "file", piece=500)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(host.asked) <= (10240 - 6500) / 500 + 1


def test_a_torn_list_of_pieces_is_read_up_to_its_end(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:2000] + bytes(8240))
    (tmp_path / "file.part.done").write_text(f"10240 1000 {MD5}\n0\n1\n1")
    download.fetch(remote(host), tmp_path / "file", piece=1000)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(host.asked) == 9


@pytest.mark.parametrize("cut", [None, 3000])
def test_begins_again_where_ranges_are_not_understood(
    host: Host, tmp_path: Path, cut: int | None
) -> None:
    host.ranges, told = False, list[int]()
    if cut:  # it also breaks off, at first

        def mend(count: int) -> None:
            told.append(count)
            host.cut = None  # the answer on its way is cut already

        host.cut = cut
    else:
        mend = told.append
    download.fetch(remote(host), tmp_path / "file", advance=mend, patience=quick(), piece=1000)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


def test_asks_again_when_the_server_is_busy(host: Host, tmp_path: Path) -> None:
    host.failures = 3
    download.fetch(remote(host), tmp_path / "file", patience=quick())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_corrupted_byte_is_fetched_again(host: Host, tmp_path: Path) -> None:
    host.corrupted, told = 1, list[int]()
    download.fetch(remote(host), tmp_path / "file", advance=told.append, patience=quick())
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


def test_a_wrong_content_range_is_refused(host: Host, tmp_path: Path) -> None:
    host.shift = 5
    with pytest.raises(UserError, match="sends from byte 5, not from 0 as asked"):
        download.fetch(remote(host), tmp_path / "file", patience=quick())
    assert not (tmp_path / "file").exists()


def test_a_slow_drip_is_given_up(host: Host, tmp_path: Path) -> None:
    host.drip = 0.02
    slow = quick(attempts=2, window=0.2, slowest=1000)
    with pytest.raises(UserError, match=r"gave up after 2 attempts .*bytes a second"):
        download.fetch(remote(host), tmp_path / "file", patience=slow)
    assert not (tmp_path / "file").exists()


def test_a_silent_host_is_given_up(host: Host, tmp_path: Path) -> None:
    host.drip = 0.5
    with pytest.raises(UserError, match="gave up after 1 attempts"):
        download.fetch(remote(host), tmp_path / "file", patience=quick(attempts=1, timeout=0.1))


def test_follows_a_redirect(host: Host, tmp_path: Path) -> None:
    host.files["/moved"] = b""
    moved = dataclasses.replace(remote(host), url=f"{host.url}/moved")
    download.fetch(moved, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_full_disk_is_no_fault_of_the_network(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        download.fetch(remote(host), tmp_path / "file", patience=quick())
    monkeypatch.undo()
    assert not (tmp_path / "file").exists()
    download.fetch(remote(host), tmp_path / "file", patience=quick())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_gives_up_and_keeps_what_arrived(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:5000] + bytes(5240))
    (tmp_path / "file.part.done").write_text(f"10240 5000 {MD5}\n0\n")
    host.failures = 99
    with pytest.raises(UserError, match=r"(?s)gave up after 3 attempts.*run it again"):
        download.fetch(remote(host), tmp_path / "file", patience=quick(attempts=3), piece=5000)
    assert download.held(tmp_path / "file") == 5000


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    nowhere = download.RemoteFile("http://127.0.0.1:9/file", 1, "")
    with pytest.raises(UserError, match="gave up after 2 attempts"):
        download.fetch(nowhere, tmp_path / "file", patience=quick(attempts=2))


def test_does_not_insist_on_what_is_refused(host: Host, tmp_path: Path) -> None:
    host.files.clear()
    with pytest.raises(UserError, match=r"404.*give another address"):
        download.fetch(remote(host), tmp_path / "file")
    assert len(host.asked) == 1


def test_refuses_other_content(host: Host, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"md5 is .*, expected 00"):
        download.fetch(remote(host, md5="00"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="the server has 10,240 bytes, expected 9"):
        download.fetch(remote(host, size=9), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def whatever(host: Host) -> download.RemoteFile:
    """Neither size nor hash are known."""
    return download.RemoteFile(f"{host.url}/file")


def test_a_size_that_is_not_known_is_asked_for(host: Host, tmp_path: Path) -> None:
    told: list[int] = []
    download.fetch(whatever(host), tmp_path / "file", advance=told.append, piece=6000)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert host.asked[0] == "bytes=0-0"
    assert sorted(map(str, host.asked[1:])) == ["bytes=0-5999", "bytes=6000-10239"]


@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT[:9000], CONTENT + b"more"])
def test_pieces_of_two_versions_never_mix(host: Host, tmp_path: Path, other: bytes) -> None:
    host.version, told = "one", list[int]()

    def change(count: int) -> None:
        told.append(count)
        if count:
            host.files["/file"], host.version = other, "two"

    download.fetch(whatever(host), tmp_path / "file", advance=change, piece=3000, connections=1)
    assert (tmp_path / "file").read_bytes() == other
    assert sum(told) == len(other)


def test_a_file_that_changes_all_the_time_is_given_up(host: Host, tmp_path: Path) -> None:
    def change(count: int) -> None:
        host.version += "+"

    host.version = "one"
    with pytest.raises(UserError, match="changed during the download, twice"):
        download.fetch(whatever(host), tmp_path / "file", advance=change, piece=3000, connections=1)
    assert list(tmp_path.iterdir()) == []


def test_it_runs_inside_an_event_loop(host: Host, tmp_path: Path) -> None:
    async def notebook() -> None:
        download.fetch(remote(host), tmp_path / "file")

    asyncio.run(notebook())
    assert (tmp_path / "file").read_bytes() == CONTENT
