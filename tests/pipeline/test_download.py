"""Downloads against a server of this machine that breaks, lies and forgets."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from condinst.download import http
from condinst.errors import UserError
from pipeline.acquire import archive, coco2017
from tests.condinst.download.faulty_host import Host
from tests.pipeline.download_faults import FAULTS, WHOLE, Fault, outcome


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_ends_in_the_whole_file_or_in_an_error(fault: Fault, tmp_path: Path) -> None:
    found = outcome(fault, tmp_path)
    assert fault.outcome in found
    assert (found == WHOLE) == (fault.outcome == WHOLE)


def quick(**values: Any) -> http.Patience:
    return http.Patience(first_wait=0, **values)


@pytest.mark.parametrize("form", ["s3", "file", "path"])
def test_coco_from_other_places(
    host: Host,
    tmp_path: Path,
    small_coco: tuple[coco2017.Archive, ...],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "mirror"
    for name, content in host.files.items():
        (folder / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        (folder / name[1:]).write_bytes(content)
    host.files |= {f"/bucket{name}": content for name, content in host.files.items()}
    monkeypatch.setenv("AWS_ENDPOINT_URL", host.url)
    given = {"s3": "s3://bucket/", "file": folder.as_uri(), "path": str(folder)}[form]
    splits = coco2017.fetch(tmp_path / "coco", given, archives=small_coco)
    assert splits["val"].images == tmp_path / "coco/val2017"
    assert (tmp_path / "coco/train2017/1.jpg").is_file()
    assert (folder / "zips/train2017.zip").is_file(), "another's archive stays"
    linked = coco2017.fetch(tmp_path / "other", str(tmp_path / "coco"), archives=small_coco)
    assert linked["train"].images == tmp_path / "coco/train2017"
    assert not (tmp_path / "other").exists()


def test_a_truncated_archive_of_a_mirror(
    tmp_path: Path, small_coco: tuple[coco2017.Archive, ...], host: Host
) -> None:
    (tmp_path / "mirror/zips").mkdir(parents=True)
    (tmp_path / "mirror/zips/val2017.zip").write_bytes(host.files["/zips/val2017.zip"][:-5])
    with pytest.raises(UserError, match=r"val2017.zip: md5 is .*, expected"):
        coco2017.fetch(tmp_path / "coco", str(tmp_path / "mirror"), archives=small_coco[2:])
    host.files["/zips/val2017.zip"] = host.files["/zips/val2017.zip"][:-5]
    with pytest.raises(UserError, match=r"the server has \d+ bytes, expected \d+"):
        coco2017.fetch(tmp_path / "coco", host.url, archives=small_coco[2:])


def zipped(path: Path, members: dict[str, bytes], mode: int = 0o100644) -> bytes:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            opened.writestr(member, content)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "..\\out", "C:/out"])
def test_an_archive_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    zipped(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(UserError, match="leaves the folder"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_archive_cannot_hold_links(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", {"link": b"/etc"}, mode=0o120777)
    with pytest.raises(UserError, match="not a plain file"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "in")


def test_a_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="damaged"):
        archive.unpack(tmp_path / "a.zip", tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a", b"1234" * 500)
    whole = bytearray((tmp_path / "c.zip").read_bytes())
    whole[31:40] = b"\xff" * 9  # of the compressed content
    (tmp_path / "c.zip").write_bytes(whole)
    with pytest.raises(UserError, match="damaged"):
        archive.unpack(tmp_path / "c.zip", tmp_path / "in")
    zipped(tmp_path / "b.zip", {"a": b"1"})
    with pytest.raises(UserError, match="does not contain c"):
        archive.unpack(tmp_path / "b.zip", tmp_path / "in", ["a", "c"])


@pytest.fixture
def small_coco(host: Host, tmp_path: Path) -> tuple[coco2017.Archive, ...]:
    """COCO 2017 with two and one images, served as the real one is."""
    notes = b'{"images": [], "annotations": [1, 2], "categories": []}'
    contents = {
        "annotations/annotations.zip": {
            "annotations/instances_train2017.json": notes,
            "annotations/instances_val2017.json": notes,
            "annotations/captions.json": b"{}",
        },
        "zips/train2017.zip": {"train2017/1.jpg": b"1" * 99, "train2017/2.jpg": b"2"},
        "zips/val2017.zip": {"val2017/3.jpg": b"3"},
    }
    found = []
    for path, members in contents.items():
        content = zipped(tmp_path / "made.zip", members)
        host.files[f"/{path}"] = content
        jsons = {name: 2 for name in members if "instances" in name}
        counts = jsons or {path[5:-4]: len(members)}
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        found.append(coco2017.Archive(path, len(content), md5, 200, counts, tuple(jsons) or None))
    (tmp_path / "made.zip").unlink()
    return tuple(found)


def test_coco_is_fetched_and_unpacked_over_breaking_connections(
    host: Host, tmp_path: Path, small_coco: tuple[coco2017.Archive, ...]
) -> None:
    host.cut, root = 150, tmp_path / "coco"
    splits = coco2017.fetch(root, host.url + "/", archives=small_coco, patience=quick())
    assert splits["train"].annotations.is_file()
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert files == [
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "train2017/1.jpg",
        "train2017/2.jpg",
        "val2017/3.jpg",
    ]
    assert sorted(path.name for path in root.iterdir()) == ["annotations", "train2017", "val2017"]
    asked = len(host.asked)
    coco2017.fetch(root, host.url, archives=small_coco)
    assert len(host.asked) == asked, "what is there is not fetched again"


def test_coco_goes_on_after_unpacking_was_killed(
    host: Host, tmp_path: Path, small_coco: tuple[coco2017.Archive, ...]
) -> None:
    root = tmp_path / "coco"
    half = root / ".train2017.part/train2017"
    half.mkdir(parents=True)
    (half / "1.jpg").write_bytes(b"1" * 50)
    (root / "train2017.zip").write_bytes(host.files["/zips/train2017.zip"])
    coco2017.fetch(root, host.url, archives=small_coco, patience=quick())
    assert (root / "train2017/1.jpg").read_bytes() == b"1" * 99
    assert len(host.asked) == 2


def test_coco_that_is_not_all_there_is_left_alone(
    host: Host, tmp_path: Path, small_coco: tuple[coco2017.Archive, ...]
) -> None:
    (tmp_path / "coco/val2017").mkdir(parents=True)
    with pytest.raises(UserError, match=r"val2017 has 0 entries, COCO 2017 has 1"):
        coco2017.fetch(tmp_path / "coco", host.url, archives=small_coco)
    assert host.asked == []


def test_an_archive_of_other_content_is_not_taken(
    host: Host, tmp_path: Path, small_coco: tuple[coco2017.Archive, ...]
) -> None:
    wrong = dataclasses.replace(small_coco[2], counts={"val2017": 5000})
    with pytest.raises(UserError, match=r"has 1 entries of val2017, expected 5,000"):
        coco2017.fetch(tmp_path / "coco", host.url, archives=[wrong])
    assert not (tmp_path / "coco/val2017").exists()


def test_coco_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=10**12, used=10**12 - 10**9, free=10**9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"COCO 2017 needs 40\.\d GB .*where 1\.0 GB are free"):
        coco2017.fetch(tmp_path / "coco", "http://127.0.0.1:9")
