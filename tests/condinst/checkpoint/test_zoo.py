from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from condinst.checkpoint import fetch as fetch_module
from condinst.checkpoint import zoo
from condinst.checkpoint.fetch import fetch, hash_in_name
from condinst.checkpoint.zoo import list_weights, resolve_weights
from condinst.errors import UserError
from tests.condinst.download.faulty_host import CONTENT, Host


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no waiting, and no proxy between us and the loopback."""
    monkeypatch.setenv("CONDINST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch_module, "FIRST_WAIT_S", 0)
    return tmp_path / "cache" / "weights"


def journal(path: Path, *whole: int, version: str = '"1"') -> None:
    """A file on its way, of pieces of 8 MB, as an earlier run left it."""
    path.with_name(path.name + ".part").write_bytes(bytes(len(CONTENT)))
    lines = [f"{len(CONTENT)} {8 << 20} {version}", *map(str, whole)]
    path.with_name(path.name + ".part.done").write_text("\n".join(lines) + "\n")


def test_url_is_fetched_once(host: Host, cache: Path) -> None:
    host.files["/a/model.pth"] = CONTENT
    for _ in range(2):
        path = resolve_weights(f"{host.url}/a/model.pth?download=true")
        assert path.read_bytes() == CONTENT
    assert host.asked == ["bytes=0-0", "bytes=0-10239"]  # how long it is, and all of it
    assert path.is_relative_to(cache)
    assert not list(cache.rglob("*.part*"))


def test_cut_transfer_goes_on_where_it_stopped(host: Host, tmp_path: Path) -> None:
    host.cut = 3000
    assert fetch(f"{host.url}/file", tmp_path / "m.pth").read_bytes() == CONTENT
    assert host.asked[1:] == [f"bytes={n}-10239" for n in (0, 3000, 6000, 9000)]


def test_what_an_earlier_run_left_is_used(host: Host, tmp_path: Path) -> None:
    host.version = '"1"'
    journal(tmp_path / "m.pth", 0)
    (tmp_path / "m.pth.part").write_bytes(CONTENT)
    assert fetch(f"{host.url}/file", tmp_path / "m.pth").read_bytes() == CONTENT
    assert host.asked == ["bytes=0-0"]


def test_half_of_another_version_is_thrown_away(host: Host, tmp_path: Path) -> None:
    host.version = '"1"'
    journal(tmp_path / "m.pth", 0, version='"0"')
    assert fetch(f"{host.url}/file", tmp_path / "m.pth").read_bytes() == CONTENT


def test_server_without_ranges(host: Host, tmp_path: Path) -> None:
    host.ranges = False
    journal(tmp_path / "m.pth")
    assert fetch(f"{host.url}/file", tmp_path / "m.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"too much", CONTENT[:100]])
def test_a_part_without_a_list_of_pieces(host: Host, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "m.pth.part").write_bytes(part)
    assert fetch(f"{host.url}/file", tmp_path / "m.pth").read_bytes() == CONTENT


def test_hash(host: Host, tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    host.files |= {f"/m-{name}.pth": CONTENT for name in (right[:8], "00000000")}
    assert resolve_weights(f"{host.url}/file#sha256={right}").read_bytes() == CONTENT
    assert hash_in_name("https://x/resnet50-0676ba61.pth?x=1") == "0676ba61"
    assert hash_in_name("https://x/resnet50.pth") is None
    assert fetch(f"{host.url}/m-{right[:8]}.pth", tmp_path / "n.pth").read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"sha256 is .*, expected 00000000, twice.*put it at"):
        resolve_weights(f"{host.url}/m-00000000.pth")
    assert not [p for p in tmp_path.rglob("m-00000000*") if p.suffix != ".lock"]


def test_missing_file_says_where_to_put_it(host: Host, cache: Path) -> None:
    with pytest.raises(UserError, match=r"404.*put it at .*missing\.pth"):
        resolve_weights(f"{host.url}/missing.pth")
    assert len(host.asked) == 1


def test_no_network_says_what_to_put_where(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError) as caught:
        resolve_weights(f"http://127.0.0.1:{port}/m.pth")
    text = str(caught.value)
    assert f"http://127.0.0.1:{port}/m.pth" in text
    assert str(cache) in text


def test_zoo_name_and_what_lies_in_the_cache(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(r for r in list_weights() if r.entry.name == "MS_R_50_1x")
    assert not row.cached
    row.path.parent.mkdir(parents=True)
    row.path.write_bytes(b"by hand")
    for name in ("MS_R_50_1x", "CondInst_MS_R_50_1x", "CondInst_MS_R_50_1x.pth", row.entry.url):
        assert resolve_weights(name) == row.path
    assert next(r for r in list_weights() if r.entry.name == "MS_R_50_1x").cached
    monkeypatch.setattr(zoo, "_DETECTRON2", f"{host.url}/detectron2/")
    host.files["/detectron2/Other/R-50.pkl"] = CONTENT
    path = resolve_weights("detectron2://Other/R-50.pkl")
    assert path == cache / "Other" / "R-50.pkl"
    assert path.read_bytes() == CONTENT


def test_zoo_holds_all_published_weights() -> None:
    rows = list_weights()
    names = {r.entry.name for r in rows}
    assert sum(r.entry.origin == "adelaidet" for r in rows) == 16  # CondInst's 10, BoxInst's 6
    assert "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl" in names
    assert len({r.path for r in rows}) == len(rows)


def test_weights_fetched_by_hand() -> None:
    with pytest.raises(UserError, match=r"drive\.google\.com.*put the file at .*epiphqny"):
        resolve_weights("epiphqny/MS_R_101_3x")


def test_paths_and_unknown_names(tmp_path: Path) -> None:
    path = tmp_path / "my weights.pth"
    path.write_bytes(b"x")
    assert resolve_weights(path) == path
    assert resolve_weights(path.as_uri()) == path
    with pytest.raises(UserError, match="similar names: MS_R_50_3x"):
        resolve_weights("MS_R_50_3xx")
    with pytest.raises(UserError, match="catalog has no"):
        resolve_weights("catalog://ImageNetPretrained/none")
